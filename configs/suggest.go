package configs

import (
	"reflect"
	"strings"
)

// yamlName is a field's key in the file; "-" is none.
func yamlName(f reflect.StructField) string { return f.Tag.Get("yaml") }

// sectionKeys returns the keys that a section may have.
func sectionKeys(t reflect.Type) map[string]reflect.Type {
	keys := make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		if name := yamlName(t.Field(i)); name != "-" {
			keys[name] = t.Field(i).Type
		}
	}
	return keys
}

// keyNames lists the keys of a section in the order of its fields.
func keyNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := yamlName(t.Field(i)); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// suggest says what to do about a key that the section of type t does not have:
// the nearest key of the section, else one that it is the start or a part of, else the
// section that has such a key, else all that there are.
func suggest(key string, t reflect.Type) string {
	best, bestDistance := "", max(len(key)/3, 1)+1
	normal := strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	for _, name := range keyNames(t) {
		if d := distance(normal, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	for _, name := range keyNames(t) {
		if best == "" && (len(normal) >= 4 && strings.HasPrefix(name, normal) || len(normal) >= 6 && strings.Contains(name, normal)) {
			best = name
		}
	}
	if best != "" {
		return `did you mean "` + best + `"?`
	}
	if sections := sectionsWith(normal, reflect.TypeFor[Config](), ""); len(sections) == 1 {
		if sections[0] == "" {
			return "it belongs at the top level of the file"
		}
		return "it belongs in " + sections[0]
	}
	return "known here are " + strings.Join(keyNames(t), ", ")
}

// sectionsWith finds every section that has the key.
func sectionsWith(key string, t reflect.Type, path string) []string {
	var found []string
	for i := range t.NumField() {
		f := t.Field(i)
		if yamlName(f) == key {
			found = append(found, path)
		}
		inner, at := f.Type, field(path, yamlName(f))
		switch inner.Kind() {
		case reflect.Slice:
			inner, at = inner.Elem(), at+"[]"
		case reflect.Map:
			inner, at = inner.Elem(), at+"[]"
		}
		if inner.Kind() == reflect.Struct && inner != secretType {
			found = append(found, sectionsWith(key, inner, at)...)
		}
	}
	return found
}

// distance is the number of inserted, removed, replaced and swapped letters
// between two keys (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
