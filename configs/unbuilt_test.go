package configs

import (
	"strings"
	"testing"
)

func TestUnbuiltNamesEachKeyThatDoesNothingYet(t *testing.T) {
	c, _, err := Load("testdata/good.all.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	c.ClickHouse.Address = "127.0.0.1:9000"
	refused, ignored := Unbuilt(c)
	for _, list := range []struct {
		name string
		got  []string
		want string
	}{
		{"refused", refused, "clickhouse.address clickhouse.shards"},
		{"ignored", ignored, "request_log"},
	} {
		var paths []string
		for _, sentence := range list.got {
			path, text, _ := strings.Cut(sentence, ": ")
			paths = append(paths, path)
			if !strings.Contains(text, "in this version") {
				t.Errorf("%s: %s", list.name, sentence)
			}
		}
		if got := strings.Join(paths, " "); got != list.want {
			t.Errorf("%s: %s; want %s", list.name, got, list.want)
		}
	}
	if refused, ignored := Unbuilt(Default()); len(refused)+len(ignored) > 0 {
		t.Errorf("the defaults ask for what is not built: %q %q", refused, ignored)
	}
}
