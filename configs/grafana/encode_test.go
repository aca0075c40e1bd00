package grafana

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the dashboards' files")

func TestDashboardFilesAreWhatTheListsMake(t *testing.T) {
	for file, d := range Dashboards() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
			t.Errorf("%s is not what the lists make (make dashboards rewrites it): %v", file, err)
		}
	}
}

// everyPanel calls f for each panel of each dashboard.
func everyPanel(f func(d Dashboard, p Panel)) {
	for _, d := range Dashboards() {
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				f(d, p)
			}
		}
	}
}

func TestEveryPanelIsExplained(t *testing.T) {
	titles := make(map[string]bool)
	everyPanel(func(d Dashboard, p Panel) {
		if key := d.UID + "/" + p.Title; titles[key] {
			t.Errorf("two panels of %s are called %q", d.UID, p.Title)
		} else {
			titles[key] = true
		}
		if p.About == "" || p.Unit == "" || len(p.Queries) == 0 {
			t.Errorf("%s: no description, unit or query", p.Title)
		}
		for _, q := range p.Queries {
			if (q.Expr == "") == (q.SQL == "") {
				t.Errorf("%s: a query has either an expression or SQL", p.Title)
			}
			if q.Expr != "" && q.Legend == "" {
				t.Errorf("%s: %s has no legend", p.Title, q.Expr)
			}
		}
	})
}

// TestPanelsLieBesideEachOther reads the files as Grafana does: no id twice, no
// panel on another or beyond the 24 columns.
func TestPanelsLieBesideEachOther(t *testing.T) {
	type place struct{ X, Y, W, H int }
	type panel struct {
		ID      int
		Title   string
		GridPos place
		Panels  []panel
	}
	for file := range Dashboards() {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct{ Panels []panel }
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		ids := make(map[int]string)
		var check func([]panel)
		check = func(list []panel) {
			taken := make(map[[2]int]string)
			for _, p := range list {
				if ids[p.ID] != "" || p.ID == 0 {
					t.Errorf("%s: %q has the id of %q", file, p.Title, ids[p.ID])
				}
				ids[p.ID] = p.Title
				g := p.GridPos
				if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
					t.Errorf("%s: %q lies at %+v", file, p.Title, g)
				}
				for x := g.X; x < g.X+g.W; x++ {
					for y := g.Y; y < g.Y+g.H; y++ {
						if other := taken[[2]int{x, y}]; other != "" {
							t.Fatalf("%s: %q lies on %q", file, p.Title, other)
						}
						taken[[2]int{x, y}] = p.Title
					}
				}
				check(p.Panels)
			}
		}
		check(d.Panels)
	}
}

// TestVariablesExist: in expressions, SQL and links, also those to another
// dashboard.
func TestVariablesExist(t *testing.T) {
	variables := make(map[string]map[string]bool)
	for _, d := range Dashboards() {
		variables[d.UID] = map[string]bool{"__rate_interval": true, "__timeFilter": true, "__timeInterval": true, "__conditionalAll": true, "__url_time_range": true, "__field": true, "__value": true}
		for _, v := range d.Variables {
			variables[d.UID][v.Name] = true
		}
	}
	used := regexp.MustCompile(`\$\{?(\w+)`)
	link := regexp.MustCompile(`^/d/([\w-]+)\?(.*)$`)
	setting := regexp.MustCompile(`var-(\w+)=`)
	everyPanel(func(d Dashboard, p Panel) {
		for _, q := range p.Queries {
			for _, m := range used.FindAllStringSubmatch(expression(q.Expr)+q.SQL, -1) {
				if !variables[d.UID][m[1]] {
					t.Errorf("%s: there is no $%s", p.Title, m[1])
				}
			}
		}
		for _, l := range p.Links {
			m := link.FindStringSubmatch(l.URL)
			if m == nil || variables[m[1]] == nil {
				t.Errorf("%s: %s leads nowhere", p.Title, l.URL)
				continue
			}
			for _, v := range setting.FindAllStringSubmatch(m[2], -1) {
				if !variables[m[1]][v[1]] {
					t.Errorf("%s: %s has no variable %s", p.Title, m[1], v[1])
				}
			}
		}
	})
}

// TestRunbooksNamePanelsThatExist: what stands in italics there is a panel.
func TestRunbooksNamePanelsThatExist(t *testing.T) {
	text, err := os.ReadFile("../prometheus/README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"page.": true, "ticket.": true}
	for _, d := range Dashboards() {
		known[d.Title] = true
	}
	everyPanel(func(_ Dashboard, p Panel) { known[p.Title] = true })
	plain := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(string(text), "")
	for _, m := range regexp.MustCompile(`(?m)(?:^|[^*\w])\*([^*\n]+)\*(?:[^*]|$)`).FindAllStringSubmatch(plain, -1) {
		if name := strings.TrimSpace(m[1]); !known[name] {
			t.Errorf("the runbooks name the panel %q, which is none", name)
		}
	}
}
