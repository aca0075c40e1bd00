package configs

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration as it is in effect, defaults included, as
// YAML that Parse reads. Secrets are ***; one that came from a file is shown by
// the file's name alone.
func (c *Config) Print(w io.Writer) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(printed(reflect.ValueOf(c).Elem())); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return encoder.Close()
}

// printed turns a value into the tree that decodes to it. The order of keys is
// that of the types, and of the alphabet in maps.
func printed(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case Secret:
		return scalarNode("!!str", x.String())
	case Size:
		return scalarNode("", x.String())
	case time.Duration:
		return scalarNode("", FormatDuration(x))
	case Redis:
		x.Password = shown(x.Password, x.PasswordFile)
		v = reflect.ValueOf(x)
	case ClickHouse:
		x.Password = shown(x.Password, x.PasswordFile)
		v = reflect.ValueOf(x)
	case Credential:
		x.Value = shown(x.Value, x.File)
		v = reflect.ValueOf(x)
	}
	switch v.Kind() {
	case reflect.Struct:
		return printedSection(v)
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range slices.Sorted(maps.Keys(stringKeys(v))) {
			n.Content = append(n.Content, scalarNode("!!str", key), printed(v.MapIndex(reflect.ValueOf(key))))
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			n.Content = append(n.Content, printed(v.Index(i)))
		}
		return n
	case reflect.Bool:
		return scalarNode("!!bool", strconv.FormatBool(v.Bool()))
	case reflect.Int:
		return scalarNode("!!int", strconv.FormatInt(v.Int(), 10))
	case reflect.Float64:
		return scalarNode("", strconv.FormatFloat(v.Float(), 'f', -1, 64))
	}
	return scalarNode("!!str", escape(v.String()))
}

func printedSection(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := range v.NumField() {
		if name := yamlName(v.Type().Field(i)); name != "-" {
			n.Content = append(n.Content, scalarNode("!!str", name), printed(v.Field(i)))
		}
	}
	return n
}

// shown hides a secret that was read from a file: given beside the file, it
// would be a mistake.
func shown(s Secret, file string) Secret {
	if file != "" {
		return Secret{}
	}
	return s
}

func stringKeys(v reflect.Value) map[string]bool {
	keys := make(map[string]bool, v.Len())
	for _, key := range v.MapKeys() {
		keys[key.String()] = true
	}
	return keys
}

func scalarNode(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
