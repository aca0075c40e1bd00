package configs

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// referenceEnv sets the one variable of relay.reference.yaml, and those of
// relay.example.yaml.
func referenceEnv(name string) (string, bool) {
	return "test-key", strings.HasSuffix(name, "_API_KEY")
}

func TestReferenceFileHasTheDefaults(t *testing.T) {
	got, _, err := Load("relay.reference.yaml", referenceEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	upstream := defaultUpstream(want)
	upstream.Name, upstream.BaseURL, upstream.Dialect = "example", "https://api.example.com/v1", OpenAI
	credential := defaultCredential()
	credential.Value = NewSecret("test-key")
	upstream.Credentials = []Credential{credential}
	route := defaultRoute(want.Retry)
	route.Models, route.Upstreams = []string{"example-*"}, []string{"example"}
	want.Upstreams, want.Routes = []Upstream{upstream}, []Route{route}
	want.Prices = map[string]Price{"example-large": {Input: 0.5, Output: 1.5, Cached: 0.05, CacheWrite: 0.5}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReferenceFileHasEveryKeyAndExplainsIt(t *testing.T) {
	data, err := os.ReadFile("relay.reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	var got []string
	var walk func(n *yaml.Node, at string, free bool)
	walk = func(n *yaml.Node, at string, free bool) {
		for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
			key := n.Content[i]
			path := field(at, key.Value)
			if free {
				path = at + "[]"
			}
			got = append(got, path)
			if !strings.Contains(lines[key.Line-1], " # ") && key.Line != n.Line {
				t.Errorf("line %d: %s has no comment", key.Line, path)
			}
			walk(n.Content[i+1], path, path == "prices")
		}
		if n.Kind == yaml.SequenceNode && len(n.Content) > 0 {
			walk(n.Content[0], at+"[]", false)
		}
	}
	walk(doc.Content[0], "", false)

	if want := typePaths(reflect.TypeFor[Config](), ""); !slices.Equal(got, want) {
		t.Errorf("keys of the file, in its order:\n%s\nof the types:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// typePaths lists every key that the types know, sections before their keys.
func typePaths(t reflect.Type, at string) []string {
	if t.Kind() != reflect.Struct || t == secretType {
		return nil
	}
	var paths []string
	for i := range t.NumField() {
		name, inner := yamlName(t.Field(i)), t.Field(i).Type
		if name == "-" {
			continue
		}
		path := field(at, name)
		paths = append(paths, path)
		if inner.Kind() == reflect.Slice {
			path, inner = path+"[]", inner.Elem()
		}
		if inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct && inner.Elem() != secretType {
			path, inner = path+"[]", inner.Elem()
			paths = append(paths, path)
		}
		paths = append(paths, typePaths(inner, path)...)
	}
	return paths
}

func TestExampleFileIsValidOnceItsVariablesAreSet(t *testing.T) {
	c, warnings, err := Load("relay.example.yaml", referenceEnv)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if len(c.Upstreams) != 3 || len(c.Routes) != 3 {
		t.Errorf("%d upstreams, %d routes", len(c.Upstreams), len(c.Routes))
	}
	_, _, err = Load("relay.example.yaml", func(string) (string, bool) { return "", false })
	if err == nil || strings.Count(err.Error(), "is not set") != 3 {
		t.Errorf("without variables: %v", err)
	}
}
