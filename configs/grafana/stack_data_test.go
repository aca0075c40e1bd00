package grafana

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// emptyWhileAllIsWell are expressions that say nothing as long as nothing is
// wrong, whatever comparison stands in them.
var emptyWhileAllIsWell = []string{
	"absent(relay_build_info)", // empty exactly while a relay is scraped
}

// TestEveryPanelAndAlertHasData runs each expression of the dashboards, their
// variables and annotations, and of the rules, on Prometheus and
// VictoriaMetrics, which scrape a relay under load; and each statement of the
// request log's dashboard on ClickHouse's engine, with that relay's rows in it.
// None may fail, none may be empty.
func TestEveryPanelAndAlertHasData(t *testing.T) {
	s := start(t)
	for name, base := range s.metrics {
		await(t, name+" has scraped for a while", func() bool {
			series, err := s.ask(base, `count_over_time(relay_build_info[1m]) >= 16 and on () sum(relay_log_rows_stored_total) > 50`)
			return err == nil && len(series) > 0
		})
	}
	for name, base := range s.metrics {
		t.Run(name, func(t *testing.T) { s.askMetrics(t, base) })
	}
	for name, base := range s.rules {
		t.Run("rules in "+name, func(t *testing.T) { evaluated(t, base) })
	}
	s.stop()
	<-s.loadHasStopped
	t.Run("names in configs/README.md", s.findNames)
	t.Run("ClickHouse", s.askLog)
	t.Run("relay logs query", s.askCommand)
}

func (s *stack) askMetrics(t *testing.T, base string) {
	ask := func(where, expr string) {
		series, err := s.ask(base, expr)
		switch {
		case err != nil:
			t.Errorf("%s: %v\n%s", where, err, expr)
		case len(series) > 0, slices.Contains(emptyWhileAllIsWell, expr):
		default:
			t.Errorf("%s is empty:\n%s", where, expr)
		}
	}
	everyPanel(func(d Dashboard, p Panel) {
		for _, q := range p.Queries {
			if q.Expr != "" {
				ask(d.Title+", "+p.Title, substituted(expression(q.Expr)))
			}
		}
	})
	ask("restarts", told(substituted(expression(restarts))))
	for where, expr := range ruleExpressions(t) {
		ask(where, told(expr))
	}
	for _, v := range Relay().Variables {
		res, err := http.Get(base + "/api/v1/series?match[]=" + url.QueryEscape(substituted(v.Metric)))
		if err != nil {
			t.Fatal(err)
		}
		var a struct{ Data []map[string]string }
		err = json.NewDecoder(res.Body).Decode(&a)
		res.Body.Close()
		if err != nil || !slices.ContainsFunc(a.Data, func(m map[string]string) bool { return m[v.Name] != "" }) {
			t.Errorf("the variable %s has no value: %v", v.Name, err)
		}
	}
}

// substituted puts in what Grafana would.
func substituted(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5s", "$job", "relay", "$instance", ".*", "$upstream", ".*", "$model", ".*", "$tenant", ".*").Replace(expr)
}

var comparison = regexp.MustCompile(` (>=|<=|==|!=|>|<) `)

// told makes each comparison answer 0 or 1 instead of nothing or something.
func told(expr string) string { return comparison.ReplaceAllString(expr, " $1 bool ") }

// ruleExpressions are those of the rules, with what is recorded written out.
func ruleExpressions(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../prometheus/relay.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Record, Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	recorded := make(map[string]string)
	all := make(map[string]string)
	name := regexp.MustCompile(`\w+:\w+:\w+`)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				recorded[r.Record] = r.Expr
			}
			all[r.Record+r.Alert] = name.ReplaceAllStringFunc(r.Expr, func(name string) string { return "(" + recorded[name] + ")" })
		}
	}
	return all
}

// evaluated waits until each rule has been evaluated, and asks for errors, in
// the words of alerts, too: some fire under this load.
func evaluated(t *testing.T, base string) {
	type rule struct {
		Name, Health, LastError string
		Alerts                  []struct{ Annotations map[string]string }
	}
	var all []rule
	alerts := func(r rule) bool { return len(r.Alerts) > 0 }
	await(t, "the rules are evaluated, and some alert", func() bool {
		res, err := http.Get(base + "/api/v1/rules")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var a struct {
			Data struct{ Groups []struct{ Rules []rule } }
		}
		if json.NewDecoder(res.Body).Decode(&a) != nil {
			return false
		}
		all = nil
		for _, g := range a.Data.Groups {
			all = append(all, g.Rules...)
		}
		return slices.ContainsFunc(all, alerts) && !slices.ContainsFunc(all, func(r rule) bool { return r.Health == "unknown" || r.Health == "" })
	})
	for _, r := range all {
		if r.Health != "ok" || r.LastError != "" {
			t.Errorf("%s: %s, %s", r.Name, r.Health, r.LastError)
		}
		for _, a := range r.Alerts {
			for _, text := range a.Annotations {
				if text == "" || strings.Contains(text, "error expanding") || strings.Contains(text, "no value") {
					t.Errorf("%s says %q", r.Name, text)
				}
			}
		}
	}
	if len(all) != len(ruleExpressions(t)) {
		t.Errorf("%d rules, want %d", len(all), len(ruleExpressions(t)))
	}
}

func (s *stack) askLog(t *testing.T) {
	id := strings.TrimSpace(s.db.Query("SELECT toString(id) FROM relay.request_log LIMIT 1"))
	for _, v := range Requests().Variables {
		if v.SQL != "" {
			if columns, rows := s.selected(t, v.Name, v.SQL); rows == 0 || len(columns) != 1 {
				t.Errorf("the variable %s: %d rows of %q", v.Name, rows, columns)
			}
		}
	}
	everyPanel(func(d Dashboard, p Panel) {
		for _, q := range p.Queries {
			if q.SQL == "" {
				continue
			}
			for name, sql := range map[string]string{"all": macros(q.SQL, id, ""), "chosen": macros(q.SQL, id, "2xx|4xx|5xx")} {
				columns, rows := s.selected(t, p.Title, sql)
				if rows == 0 && !(name == "chosen" && strings.Contains(q.SQL, "usage_1h")) {
					t.Errorf("%s (%s) is empty:\n%s", p.Title, name, sql)
				}
				for column := range p.Columns {
					if !slices.Contains(columns, column) {
						t.Errorf("%s has no column %s: %q", p.Title, column, columns)
					}
				}
				for _, l := range p.Links {
					if p.Kind == Table && !slices.Contains(columns, l.Column) {
						t.Errorf("%s has no column %s to click on: %q", p.Title, l.Column, columns)
					}
				}
			}
		}
	})
}

// findNames looks for each metric that configs/README.md names.
func (s *stack) findNames(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`relay_\w+(?:_seconds|_total)`).FindAllString(string(text), -1) {
		for server, base := range s.metrics {
			if series, err := s.ask(base, fmt.Sprintf(`count_over_time({__name__=~"%s(_count)?"}[1m])`, name)); err != nil || len(series) == 0 {
				t.Errorf("%s: there is no %s: %v", server, name, err)
			}
		}
	}
}

var (
	timeFilter   = regexp.MustCompile(`\$__timeFilter\((\w+)\)`)
	timeInterval = regexp.MustCompile(`\$__timeInterval\((\w+)\)`)
	conditional  = regexp.MustCompile(`(?m)\$__conditionalAll\((.*), \$(\w+)\)`)
	quoted       = regexp.MustCompile(`\$\{(\w+):singlequote\}`)
)

// macros puts in what the plugin and Grafana would: with all values of each
// variable chosen, or, where there is a status, with all of them by name.
func macros(sql, request, status string) string {
	now := time.Now().Unix()
	sql = timeFilter.ReplaceAllString(sql, fmt.Sprintf("$1 >= toDateTime(%d) AND $1 <= toDateTime(%d)", now-3600, now+60))
	sql = timeInterval.ReplaceAllString(sql, "toStartOfInterval(toDateTime($1), INTERVAL 15 second)")
	if status == "" {
		sql = conditional.ReplaceAllString(sql, "1=1")
	} else {
		sql = conditional.ReplaceAllString(sql, "$1")
	}
	return quoted.ReplaceAllStringFunc(sql, func(v string) string {
		return map[string]string{
			"request": "'" + request + "'", "status": "'" + status + "'", "tenant": "'acme','small'", "model": "'m','cheap','twice','lost'",
			"upstream": "'sim','other','gone'", "reason": "'completed','upstream_status','upstream_error','upstream_cut','client_gone'",
		}[quoted.FindStringSubmatch(v)[1]]
	})
}

// selected runs a statement as the data source does, in the database relay.
func (s *stack) selected(t *testing.T, where, sql string) (columns []string, rows int) {
	t.Helper()
	res, err := http.Post("http://"+s.db.HTTP+"/?database=relay", "text/plain", strings.NewReader(sql+"\nFORMAT JSON"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a struct {
		Meta []struct{ Name string }
		Rows int
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &a) != nil {
		t.Errorf("%s: %s: %s\n%s", where, res.Status, body, sql)
		return nil, 0
	}
	for _, m := range a.Meta {
		columns = append(columns, m.Name)
	}
	return columns, a.Rows
}

// askCommand runs each command line that a panel shows.
func (s *stack) askCommand(t *testing.T) {
	id := strings.TrimSpace(s.db.Query("SELECT toString(id) FROM relay.request_log LIMIT 1"))
	words := strings.NewReplacer("MODEL", "m", "TENANT", "acme", "UPSTREAM", "sim", "ID", id)
	asked := make(map[string]bool)
	everyPanel(func(_ Dashboard, p Panel) {
		if p.Ask != "" && !asked[p.Ask] {
			asked[p.Ask] = true
			if out := s.command(append([]string{"logs", "query"}, strings.Fields(words.Replace(p.Ask))...)...); strings.Count(out, "\n") == 0 {
				t.Errorf("%s: relay logs query %s prints nothing", p.Title, p.Ask)
			}
		}
	})
}
