package configs

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// readTree parses the one document of data. The root is nil when the document
// is empty or a problem was reported.
func readTree(data []byte, r *report) *yaml.Node {
	if len(data) > maxFile {
		r.onLine(0, "", "the file is larger than %v: split the relay or shorten the file", Size(maxFile))
		return nil
	}
	lines := &lineReader{rest: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	decoder := yaml.NewDecoder(lines)
	doc, err := nextDocument(decoder)
	if err == io.EOF {
		return nil
	}
	if err != nil {
		line, message := syntaxProblem(err, lines.read)
		r.onLine(line, "", "%s", message)
		return nil
	}
	if second, err := nextDocument(decoder); err != io.EOF {
		line := lines.read
		if second != nil {
			line = second.Line
		}
		r.onLine(line, "", "a second document begins here: the configuration is one document; remove the --- or ... and what follows")
		return nil
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		r.onLine(root.Line, "", "the file is %s where sections are expected: write key: value", kindName(root))
		return nil
	}
	return root
}

// nextDocument returns io.EOF at the end of the stream.
func nextDocument(decoder *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		// The library panics on events that it does not expect.
		if v := recover(); v != nil {
			doc, err = nil, fmt.Errorf("parse: %v", v)
		}
	}()
	doc = new(yaml.Node)
	if err := decoder.Decode(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// lineReader hands out one line at a time and counts them: the parser reads
// only as far as it has understood, and its own line numbers often name the
// begin of the section around a mistake instead.
type lineReader struct {
	rest []byte
	read int // lines begun
	mid  bool
}

func (l *lineReader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := bytes.IndexByte(l.rest, '\n') + 1
	if n == 0 {
		n = len(l.rest)
	}
	n = copy(p, l.rest[:n])
	if !l.mid {
		l.read++
	}
	l.mid = n > 0 && l.rest[n-1] != '\n'
	l.rest = l.rest[n:]
	return n, nil
}

// syntaxCause maps a cause, as the library words it, to what we say. The
// library's own text is never shown, since it may quote the file.
type syntaxCause struct {
	words   string
	message string
	where   byte // which line is right
}

const (
	atRead   = 'r' // the line that was read last
	atOrNext = 'n' // the line before that, or that one
	atOwn    = 'o' // the library's own
)

var syntaxCauses = [...]syntaxCause{
	{"mapping values are not allowed", `": " inside a value, or wrong indentation: put the value in quotes or fix the indentation`, atRead},
	{"cannot start any token", "a line or value begins with @, `, % or a tab: put the value in quotes; indent with spaces", atRead},
	{"tab character", "a tab stands where indentation is expected: use spaces", atRead},
	{"unknown escape character", `unknown escape in a value in double quotes: use single quotes, or write \\ for one backslash`, atRead},
	{"control characters", "a control character stands in the file: remove it", atRead},
	{"UTF-8", "the file is not UTF-8 text: save it as UTF-8", atRead},
	{"expected ',' or", "a { or [ is not closed on this line or the one before, or ${VAR} stands inside it without quotes: close it, or put the value in quotes", atOrNext},
	{"expected key", "this line or the next is not indented like the lines of its section: fix the indentation", atOrNext},
	{"unknown anchor", "an alias (*name) without its anchor on this line or the one before: put a value that begins with * in quotes", atOrNext},
	{"expected ':'", `a line that is neither "key: value" nor a list item: add the colon or the dash`, atOwn},
	{"end of stream", "a quote that begins here is not closed: close it", atOwn},
}

// syntaxProblem says what is wrong and where, given the library's error and
// the number of lines that were read when it was found.
func syntaxProblem(err error, read int) (line int, message string) {
	text := err.Error()
	for _, cause := range syntaxCauses {
		if !strings.Contains(text, cause.words) {
			continue
		}
		line = read
		switch cause.where {
		case atOrNext:
			line = max(read-1, 1)
		case atOwn:
			line = 1
			_, _ = fmt.Sscanf(text, "yaml: line %d:", &line)
			if line > 1 && line >= read {
				// The library takes the first line for none, and names the last.
				return line, "not valid YAML: " + cause.message + " (or on line 1)"
			}
		}
		return line, "not valid YAML: " + cause.message
	}
	return max(read-1, 1), "not valid YAML on this line or the next: check its indentation, quotes and brackets"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
