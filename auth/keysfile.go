package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"streamrelay/auth/limits"
)

// keysFile is a parsed keys.yaml. The YAML nodes are kept beside the records,
// so that an edit leaves the operator's comments and order alone.
type keysFile struct {
	doc     *yaml.Node // the document; nil: there is none
	list    *yaml.Node // the sequence under keys; nil: there is none
	records []*Record
	nodes   []*yaml.Node // the mapping of records[i]
	tenants []*Tenant

	peppered bool // the digests are made with a pepper

	// Where in records an id, a name or a digest is.
	ids, names map[string]int
	digests    map[Digest]int
}

func newKeysFile() *keysFile {
	return &keysFile{ids: map[string]int{}, names: map[string]int{}, digests: map[Digest]int{}}
}

// appendRecord adds a record and the node that stands for it.
func (f *keysFile) appendRecord(r *Record, node *yaml.Node) {
	i := len(f.records)
	f.records, f.nodes = append(f.records, r), append(f.nodes, node)
	f.ids[r.ID], f.names[r.Name], f.digests[r.Digest] = i, i, i
}

// How a digest begins in files: with a pepper it says nothing of the key to who
// does not have the pepper, and a relay without it must not seem to know no key.
const (
	digestPrefix   = "sha256:"
	pepperedPrefix = "sha256+pepper:"
)

const fileHead = `Keys of the relay, written by "relay keys". Only digests are kept: a key that is lost cannot be read back.`

// parseKeys reads a keys file strictly. path only names the file in errors;
// what is wrong with the content is a *FormatError.
func parseKeys(path string, data []byte) (f *keysFile, err error) {
	problems := &FormatError{Path: path}
	// The running relay reads whatever somebody saves: a document that makes
	// the YAML library panic must be a broken file and no more.
	defer func() {
		if p := recover(); p != nil {
			problems.add(0, "not readable as YAML (the parser gave up)")
			f, err = nil, problems
		}
	}()
	f = newKeysFile()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return f, nil // empty, or comments alone
	case err != nil:
		problems.addYAML(err)
		return nil, problems
	}
	f.doc = &doc
	if err := decoder.Decode(&second); err == nil {
		problems.add(second.Line, "a second YAML document: there may be only one")
	} else if !errors.Is(err, io.EOF) {
		problems.addYAML(err)
	}
	f.readDocument(problems)
	if len(problems.Problems) > 0 {
		return nil, problems
	}
	return f, nil
}

// addYAML notes an error of the YAML library without the text that it may
// quote from the file.
func (e *FormatError) addYAML(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	if strings.Contains(text, "unknown anchor") {
		text = "anchors and aliases are not allowed"
	}
	e.add(line, "not YAML: %s", text)
}

func (f *keysFile) readDocument(problems *FormatError) {
	root := f.doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		f.doc = nil
		return
	}
	eachPair(root, problems, "the file", func(key string, k, v *yaml.Node) {
		switch {
		case key == "tenants":
			f.readTenants(v, problems)
		case key != "keys":
			problems.add(k.Line, "unknown key %s (known: keys, tenants)", quoteName(key))
		case v.Kind == yaml.SequenceNode:
			f.list = v
		case v.Kind == yaml.ScalarNode && v.Tag == "!!null":
			v.Kind, v.Tag, v.Value = yaml.SequenceNode, "!!seq", ""
			f.list = v
		default:
			problems.add(v.Line, "keys: want a list")
		}
	})
	if f.list == nil {
		return
	}
	lineOf := func(i int) int { return f.nodes[i].Line }
	for _, node := range f.list.Content {
		r, peppered, ok := readRecord(node, problems)
		if !ok {
			continue
		}
		if len(f.records) > 0 && peppered != f.peppered {
			problems.add(node.Line, "digest: some keys of this file were made with a pepper and some without: import the others again")
		}
		f.peppered = peppered
		if i, taken := f.ids[r.ID]; taken {
			problems.add(node.Line, "id %q: already used in line %d", r.ID, lineOf(i))
		}
		if i, taken := f.digests[r.Digest]; taken {
			problems.add(node.Line, "digest: the same key stands in line %d", lineOf(i))
		}
		if i, taken := f.names[r.Name]; taken {
			problems.add(node.Line, "name %q: already used in line %d", r.Name, lineOf(i))
		}
		f.appendRecord(r, node)
	}
	for i, r := range f.records {
		if j, taken := f.ids[r.Name]; taken && r.Name != r.ID {
			problems.add(lineOf(i), "name %q: is the id of the key in line %d", r.Name, lineOf(j))
		}
	}
}

// eachPair calls visit for each pair of a mapping, once per key.
func eachPair(node *yaml.Node, problems *FormatError, what string, visit func(key string, k, v *yaml.Node)) {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		problems.add(node.Line, "anchors and aliases are not allowed")
		return
	}
	if node.Kind != yaml.MappingNode {
		problems.add(node.Line, "%s: want keys and values", what)
		return
	}
	seen := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		k, v := node.Content[i], node.Content[i+1]
		switch line, twice := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			problems.add(k.Line, "%s: a key must be plain text", what)
		case v.Kind == yaml.AliasNode || k.Anchor != "" || v.Anchor != "":
			problems.add(v.Line, "anchors and aliases are not allowed")
		case twice:
			problems.add(k.Line, "%s: given already in line %d", quoteName(k.Value), line)
		default:
			seen[k.Value] = k.Line
			visit(k.Value, k, v)
		}
	}
}

// quoteName quotes text of the file for an error, unless it may be a key.
func quoteName(s string) string {
	if resemblesKey(s) || len(s) > maxNameLength {
		return "(not shown)"
	}
	return fmt.Sprintf("%q", s)
}

// readRecord reads one element of keys; ok is false where it cannot be used.
func readRecord(node *yaml.Node, problems *FormatError) (r *Record, peppered, ok bool) {
	before := len(problems.Problems)
	r = &Record{}
	hasDigest := false
	eachPair(node, problems, "a key", func(key string, k, v *yaml.Node) {
		var err error
		switch key {
		case "id":
			if r.ID, err = textOf(v); err == nil {
				err = checkID(r.ID)
			}
		case "name":
			if r.Name, err = textOf(v); err == nil {
				err = checkName(r.Name)
			}
		case "digest":
			hasDigest = true
			r.Digest, peppered, err = readDigest(v)
		case "tenants":
			r.Tenants, err = listOf(v, checkTenant)
		case "models":
			r.Models, err = listOf(v, checkModel)
		case "paths":
			r.Paths, err = listOf(v, checkPath)
		case "limits":
			readLimits(v, &r.Limits, problems)
		case "created":
			r.Created, err = timeOf(v)
		case "expires":
			r.Expires, err = timeOf(v)
		case "revoked":
			r.Revoked, err = timeOf(v)
		case "disabled":
			if v.Tag != "!!bool" || v.Decode(&r.Disabled) != nil {
				err = errors.New("want true or false")
			}
		case "metadata":
			r.Metadata = map[string]string{}
			eachPair(v, problems, key, func(name string, _, value *yaml.Node) {
				text, err := textOf(value)
				if err != nil {
					problems.add(value.Line, "metadata: %s", err)
				}
				r.Metadata[name] = text
			})
		default:
			problems.add(k.Line, "unknown key %s (known: id, name, digest, tenants, models, paths, limits, created, expires, disabled, revoked, metadata)", quoteName(key))
		}
		if err != nil {
			problems.add(v.Line, "%s: %s", key, err)
		}
	})
	if len(problems.Problems) > before || before == maxProblems {
		return nil, false, false
	}
	if r.ID == "" {
		problems.add(node.Line, "id: is missing")
	}
	if !hasDigest {
		problems.add(node.Line, `digest: is missing; add keys with "relay keys create" or "relay keys import -"`)
	}
	if r.Name == "" {
		r.Name = r.ID
	}
	if len(r.Tenants) == 0 {
		r.Tenants = []string{defaultTenant}
	}
	return r, peppered, r.ID != "" && hasDigest
}

// readLimits reads the mapping of a record's or tenant's limits.
func readLimits(v *yaml.Node, into *limits.Limits, problems *FormatError) {
	fields := limits.Fields()
	eachPair(v, problems, "limits", func(name string, k, value *yaml.Node) {
		i := slices.IndexFunc(fields, func(f limits.Field) bool { return f.Name == name })
		if i < 0 {
			problems.add(k.Line, "limits: unknown key %s (known: %s)", quoteName(name), limitNames())
			return
		}
		if value.Kind != yaml.ScalarNode {
			problems.add(value.Line, "%s: want one value", name)
		} else if err := fields[i].Set(into, value.Value); err != nil {
			problems.add(value.Line, "%s: %s", name, err)
		}
	})
}

func limitNames() string {
	var names []string
	for _, f := range limits.Fields() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// readTenants reads the mapping under tenants.
func (f *keysFile) readTenants(v *yaml.Node, problems *FormatError) {
	if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
		return
	}
	eachPair(v, problems, "tenants", func(name string, k, value *yaml.Node) {
		t := &Tenant{Name: name}
		if err := checkOneTenant(name); err != nil {
			problems.add(k.Line, "tenants: %s", err)
			return
		}
		eachPair(value, problems, "a tenant", func(key string, k, v *yaml.Node) {
			if key != "limits" {
				problems.add(k.Line, "unknown key %s (known: limits)", quoteName(key))
				return
			}
			readLimits(v, &t.Limits, problems)
		})
		f.tenants = append(f.tenants, t)
	})
}

func textOf(v *yaml.Node) (string, error) {
	if v.Kind != yaml.ScalarNode || v.Tag != "!!str" {
		return "", errors.New("want text; put numbers, true, false and dates in quotes")
	}
	return v.Value, nil
}

func listOf(v *yaml.Node, check func(string) error) ([]string, error) {
	if v.Kind != yaml.SequenceNode {
		return nil, errors.New("want a list, such as [a, b]")
	}
	var list []string
	for _, item := range v.Content {
		s, err := textOf(item)
		if err == nil {
			err = check(s)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func timeOf(v *yaml.Node) (time.Time, error) {
	if v.Kind != yaml.ScalarNode || v.Tag != "!!timestamp" && v.Tag != "!!str" {
		return time.Time{}, errNotTime
	}
	return parseTime(v.Value)
}

// readDigest never says what stands there: it may be a raw key.
func readDigest(v *yaml.Node) (d Digest, peppered bool, err error) {
	text, ok := strings.CutPrefix(v.Value, digestPrefix)
	if !ok {
		text, peppered = strings.CutPrefix(v.Value, pepperedPrefix)
	}
	if v.Kind != yaml.ScalarNode || !ok && !peppered {
		return d, false, errNotDigest
	}
	d, err = parseDigest(text)
	return d, peppered, err
}

func parseDigest(text string) (d Digest, err error) {
	if len(text) != 2*len(d) {
		return d, errNotDigest
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil {
		return d, errNotDigest
	}
	return d, nil
}

var errNotDigest = errors.New(`want sha256: and 64 hex digits, in quotes if need be; a raw key never stands in this file: add it with "relay keys import -"`)
