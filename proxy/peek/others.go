package peek

// OtherModels calls allowed with each model that body, a JSON object that Parse
// took, names beside its own, and reports whether all are allowed. What no
// reader could take for a name is not allowed.
//
// Known are the lists of those that answer where the first does not (models:
// OpenRouter; fallbacks: Anthropic, LiteLLM), and models that serve as tools
// (Anthropic's advisor). With deep, a member model or models counts wherever it
// stands: of what kind the body is, nobody knows then. The time that it takes
// depends on the body's length alone.
func OtherModels(body []byte, deep bool, allowed func(model []byte) bool) bool {
	w := modelWalk{body, allowed}
	m := members{body: body, at: skipSpace(body, 0) + 1, depth: 1}
	for key, value, ok := m.next(); ok; key, value, ok = m.next() {
		name := memberOf(key.of(body))
		switch {
		case name == memberModels, name == memberFallbacks:
			ok = w.names(value)
		case name == memberTools:
			ok = w.elements(value)
		}
		if !ok || deep && name != memberModel && !w.below(value) {
			return false
		}
	}
	return true
}

type modelWalk struct {
	body    []byte
	allowed func([]byte) bool
}

// name judges a value that names a model, where it is a string.
func (w *modelWalk) name(value span) bool {
	if w.body[value.from] != '"' {
		return true
	}
	model, ok := unescape(nil, w.body[value.from+1:value.to-1], MaxModel)
	return ok && w.allowed(model)
}

// names judges a list of models, or of objects that name one, or one of either.
func (w *modelWalk) names(value span) bool {
	if w.body[value.from] == '[' {
		return w.each(value, w.oneName)
	}
	return w.oneName(value)
}

// oneName judges a model, or an object that names one. A list in a list is
// nobody's, and would be read once more for each level.
func (w *modelWalk) oneName(value span) bool {
	switch w.body[value.from] {
	case '[':
		return false
	case '{':
		return w.member(value)
	}
	return w.name(value)
}

// elements judges what the objects of a list name.
func (w *modelWalk) elements(value span) bool {
	return w.body[value.from] != '[' || w.each(value, func(v span) bool {
		return w.body[v.from] != '{' || w.member(v)
	})
}

// member judges the model that an object names.
func (w *modelWalk) member(object span) bool {
	m := members{body: w.body, at: object.from + 1, depth: 1}
	for key, value, ok := m.next(); ok; key, value, ok = m.next() {
		if memberOf(key.of(w.body)) == memberModel && !w.name(value) {
			return false
		}
	}
	return true
}

// below judges every member model, and every text of a member models, within
// value. It reads each byte once, however deep it stands.
func (w *modelWalk) below(value span) bool {
	var list [MaxDepth + 2]bool // by level: an array of names
	level, key := 0, memberNone // key of the value that comes next
	b := w.body
	for i := value.from; i < value.to; i++ {
		switch b[i] {
		case '{':
			level++
			list[level], key = false, memberNone
		case '[':
			names := key == memberModels || list[level]
			level++
			list[level], key = names, memberNone
		case '}', ']':
			level--
		case ',':
			key = memberNone
		case '"':
			quote, _ := scanString(b, i+1)
			text := span{i, quote + 1}
			i = quote
			if at := skipSpace(b, text.to); at < len(b) && b[at] == ':' {
				key = memberOf(b[text.from+1 : text.to-1])
			} else if (key == memberModel || key == memberModels || list[level]) && !w.name(text) {
				return false
			}
		}
	}
	return true
}

// each calls f with the elements of an array until it is false.
func (w *modelWalk) each(array span, f func(span) bool) bool {
	b := w.body
	for i := skipSpace(b, array.from+1); b[i] != ']'; i = skipSpace(b, i) {
		end, _ := scanValue(b, i, 1)
		if !f(span{i, end}) {
			return false
		}
		if i = skipSpace(b, end); b[i] == ',' {
			i++
		}
	}
	return true
}

// modelMember is a key under which other models than the body's own are named.
type modelMember uint8

const (
	memberNone modelMember = iota
	memberModel
	memberModels
	memberFallbacks
	memberTools
)

// memberOf finds what a key, as written between its quotes, stands for, also to
// readers that ignore case.
func memberOf(raw []byte) modelMember {
	var name [maxFieldLen]byte
	n, _ := foldKey(&name, raw)
	switch string(name[:n]) {
	case "model":
		return memberModel
	case "models":
		return memberModels
	case "fallbacks":
		return memberFallbacks
	case "tools":
		return memberTools
	}
	return memberNone
}
