package configs

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds the values of one file, those repeated by aliases included:
// a few lines of aliases of aliases may otherwise stand for millions.
const maxNodes = 100_000

var (
	secretType     = reflect.TypeFor[Secret]()
	sizeType       = reflect.TypeFor[Size]()
	durationType   = reflect.TypeFor[time.Duration]()
	upstreamType   = reflect.TypeFor[Upstream]()
	credentialType = reflect.TypeFor[Credential]()
	routeType      = reflect.TypeFor[Route]()
	priceType      = reflect.TypeFor[Price]()
)

// decoder fills a Config from a tree. It follows the types, not the tree, so
// its depth is theirs and a tree that contains itself does no harm.
type decoder struct {
	*report
	env      func(string) (string, bool)
	config   *Config
	nodes    int
	literals []string // paths of secrets written out in the file itself
}

// value decodes n into out, which holds the default and keeps it where n is
// null or wrong.
func (d *decoder) value(n *yaml.Node, path string, out reflect.Value) {
	if d.nodes++; d.nodes > maxNodes {
		return
	}
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.onLine(line, path, "tags (!name) are not used here: remove the tag; put a value that begins with ! in quotes")
		return
	}
	switch t := out.Type(); {
	case t == secretType || t == sizeType || t == durationType:
		d.scalar(n, line, path, out)
	case t.Kind() == reflect.Struct:
		d.section(n, line, path, out)
	case t.Kind() == reflect.Map:
		d.names(n, line, path, out)
	case t.Kind() == reflect.Slice:
		d.list(n, line, path, out)
	default:
		d.scalar(n, line, path, out)
	}
}

// pair is one key of a mapping.
type pair struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
}

// pairs returns the keys of a mapping in order, the first of each name, and
// reports the others.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	seen := make(map[string]int, len(n.Content)/2)
	list := make([]pair, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		line := key.Line
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch first := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 || isNull(key):
			d.onLine(line, path, "a key that is not plain text: write key: value")
		case key.ShortTag() == "!!merge":
			d.onLine(line, path, "merge keys (<<) are not supported: repeat the keys, or use an alias for a whole value")
		case first > 0:
			d.onLine(line, path, "duplicate key %s, first given on line %d: remove one of them", showKey(key.Value), first)
		default:
			seen[key.Value] = line
			list = append(list, pair{key.Value, n.Content[i], n.Content[i+1]})
		}
	}
	return list
}

// section decodes a mapping into a struct, in the order of the struct's
// fields: what later fields inherit is then complete.
func (d *decoder) section(n *yaml.Node, line int, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.onLine(line, path, "%s where a section is expected: write its keys below it, indented", kindName(n))
		return
	}
	keys := sectionKeys(out.Type())
	values := make(map[string]*yaml.Node, len(keys))
	for _, p := range d.pairs(n, path) {
		if _, known := keys[p.name]; !known {
			if len(d.problems) == maxProblems {
				d.dropped++ // without the search for a near key
				continue
			}
			d.onLine(p.key.Line, path, "unknown key %s: %s", showKey(p.name), suggest(p.name, out.Type()))
			continue
		}
		values[p.name] = p.value
		d.lines[field(path, p.name)] = p.key.Line
	}
	for i := range out.NumField() {
		name := yamlName(out.Type().Field(i))
		if v, ok := values[name]; ok {
			d.value(v, field(path, name), out.Field(i))
		}
	}
}

// names decodes a mapping with free keys.
func (d *decoder) names(n *yaml.Node, line int, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.onLine(line, path, "%s where names and values are expected: write name: value below it, indented", kindName(n))
		return
	}
	m := reflect.MakeMap(out.Type())
	for _, p := range d.pairs(n, path) {
		at := entry(path, p.name)
		if p.name == "" || strings.ContainsFunc(p.name, isControl) {
			d.onLine(p.key.Line, path, "a name that is empty or holds a control character: remove it")
			continue
		}
		d.lines[at] = p.key.Line
		v := reflect.New(out.Type().Elem()).Elem()
		d.defaults(v)
		d.value(p.value, at, v)
		m.SetMapIndex(reflect.ValueOf(p.name), v)
	}
	if m.Len() == 0 {
		m = reflect.Zero(out.Type())
	}
	out.Set(m)
}

// list decodes a sequence. Within a list of lists, a value alone is a list of one.
func (d *decoder) list(n *yaml.Node, line int, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.onLine(line, path, "%s where a list is expected: write it as [a, b], or one item a line after a dash", kindName(n))
		return
	}
	elem := out.Type().Elem()
	s := reflect.MakeSlice(out.Type(), 0, len(n.Content))
	if len(n.Content) == 0 {
		s = reflect.Zero(out.Type())
	}
	for i, child := range n.Content {
		at := item(path, i)
		d.lines[at] = child.Line
		v := reflect.New(elem).Elem()
		d.defaults(v)
		if elem.Kind() == reflect.Slice && child.Kind == yaml.ScalarNode {
			one := reflect.New(elem.Elem()).Elem()
			d.value(child, at, one)
			v.Set(reflect.Append(v, one))
		} else if isNull(child) {
			d.add(at, "an empty list item: fill it in or remove it")
		} else {
			d.value(child, at, v)
		}
		s = reflect.Append(s, v)
	}
	out.Set(s)
}

// defaults fills a new item of a list or of a mapping with free keys.
func (d *decoder) defaults(v reflect.Value) {
	switch v.Type() {
	case upstreamType:
		v.Set(reflect.ValueOf(defaultUpstream(d.config)))
	case credentialType:
		v.Set(reflect.ValueOf(defaultCredential()))
	case routeType:
		v.Set(reflect.ValueOf(defaultRoute(d.config.Retry)))
	case priceType:
		v.Set(reflect.ValueOf(defaultPrice()))
	}
}

// scalar decodes one value that has a text form.
func (d *decoder) scalar(n *yaml.Node, line int, path string, out reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.onLine(line, path, "%s where %s is expected: write one value", kindName(n), typeName(out.Type()))
		return
	}
	if isNull(n) {
		d.onLine(line, path, "no value: give %s, or remove the key", typeName(out.Type()))
		return
	}
	text, used, err := expand(n.Value, d.env)
	if err != nil {
		d.onLine(line, path, "%v", err)
		return
	}
	if message := textProblem(text); message != "" {
		d.onLine(line, path, "%s", message)
		return
	}
	switch out.Type() {
	case secretType:
		out.Set(reflect.ValueOf(NewSecret(text)))
		if !used && text != "" {
			d.literals = append(d.literals, path)
		}
		return
	case sizeType:
		v, err := ParseSize(text)
		d.set(line, path, out, v, err)
		return
	case durationType:
		v, err := ParseDuration(text)
		d.set(line, path, out, v, err)
		return
	}
	if out.Kind() == reflect.String {
		out.SetString(text)
		return
	}
	// A number or a truth value in quotes is a text, unless it had to be
	// quoted for a variable in it.
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && !used {
		d.onLine(line, path, "a text in quotes where %s is expected: write it without quotes", typeName(out.Type()))
		return
	}
	if !setPlain(out, text) {
		d.onLine(line, path, "not %s: write %s", typeName(out.Type()), typeExample(out.Type()))
	}
}

// set stores v unless err says that it is wrong.
func (d *decoder) set(line int, path string, out reflect.Value, v any, err error) {
	if err != nil {
		d.onLine(line, path, "%v", err)
		return
	}
	out.Set(reflect.ValueOf(v))
}

// setPlain stores a truth value or a number and reports whether text is one.
// Forms that YAML versions read differently (yes, on, 010, 0x10, 1_000) are not.
func setPlain(out reflect.Value, text string) bool {
	switch out.Kind() {
	case reflect.Bool:
		out.SetBool(text == "true")
		return text == "true" || text == "false"
	case reflect.Int:
		v, err := strconv.ParseInt(text, 10, 32)
		if err != nil || strconv.FormatInt(v, 10) != text {
			return false
		}
		out.SetInt(v)
		return true
	case reflect.Float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || strings.ContainsAny(text, "xX_") {
			return false
		}
		out.SetFloat(v)
		return true
	}
	panic("BUG: configuration type " + out.Type().String() + " has no decoder")
}

// textProblem says why no value may hold s. Control characters would end up in
// header fields, file names and log lines.
func textProblem(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "the value is not UTF-8 text: check the variable that it comes from"
	case strings.TrimRight(s, "\r\n") != s:
		return "the value ends in a line break: use quotes, or |- instead of |; a variable must not end in one"
	case strings.ContainsFunc(s, isControl):
		return "the value holds a control character or a line break: remove it"
	}
	return ""
}

func isControl(c rune) bool { return c < ' ' || 0x7f <= c && c < 0xa0 }

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func typeName(t reflect.Type) string {
	switch t {
	case sizeType:
		return "a size"
	case durationType:
		return "a duration"
	case secretType:
		return "a secret"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "a text"
}

func typeExample(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false, nothing else"
	case reflect.Int:
		return "decimal digits, such as 100"
	}
	return "decimal digits, such as 0.25"
}
