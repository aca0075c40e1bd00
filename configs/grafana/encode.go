package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The data sources, as provisioning/datasources names them.
const (
	metricsType, metricsUID = "prometheus", "relay-metrics"
	logType, logUID         = "grafana-clickhouse-datasource", "relay-clickhouse"
)

// Dashboards are all of them, by the name of their file.
func Dashboards() map[string]Dashboard {
	return map[string]Dashboard{"relay.json": Relay(), "requests.json": Requests()}
}

type object = map[string]any

// JSON returns d as Grafana reads it from a file.
func (d Dashboard) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(object{
		"uid": d.UID, "title": d.Title, "description": d.About, "tags": []string{"stream-relay"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "timezone": "browser",
		"time": object{"from": d.Range, "to": "now"}, "refresh": d.Refresh, "timepicker": object{},
		"templating": object{"list": d.variables()}, "annotations": object{"list": d.annotations()},
		"links": []object{{
			"type": "dashboards", "tags": []string{"stream-relay"}, "title": "Stream Relay", "asDropdown": false,
			"tooltip": "", "includeVars": false, "keepTime": true, "targetBlank": false, "icon": "external link",
		}},
		"panels": d.panels(),
	})
	return b.Bytes(), err
}

// asksMetrics and asksLog report which data sources d asks.
func (d Dashboard) asksMetrics() bool {
	return d.asks(func(q Query) bool { return q.Expr != "" })
}

func (d Dashboard) asksLog() bool {
	return d.asks(func(q Query) bool { return q.SQL != "" })
}

func (d Dashboard) asks(which func(Query) bool) bool {
	return slices.ContainsFunc(d.Rows, func(r Row) bool {
		return slices.ContainsFunc(r.Panels, func(p Panel) bool { return slices.ContainsFunc(p.Queries, which) })
	})
}

func source(variable, kind string) object { return object{"type": kind, "uid": "${" + variable + "}"} }

// sourceOf is the data source of a query.
func (q Query) source() object {
	if q.SQL != "" {
		return source("log", logType)
	}
	return source("metrics", metricsType)
}

func (d Dashboard) variables() (list []object) {
	pick := func(name, label, kind, uid, text string) object {
		return object{"name": name, "label": label, "type": "datasource", "query": kind, "current": object{"text": text, "value": uid}, "refresh": 1, "hide": 0}
	}
	if d.asksMetrics() {
		list = append(list, pick("metrics", "Metrics", metricsType, metricsUID, "Metrics"))
	}
	if d.asksLog() {
		list = append(list, pick("log", "Request log", logType, logUID, "Request log"))
	}
	for _, v := range d.Variables {
		o := object{"name": v.Name, "label": v.Label, "hide": 0}
		if v.Metric == "" && v.SQL == "" {
			o["type"], o["query"], o["current"] = "textbox", "", object{"text": "", "value": ""}
			list = append(list, o)
			continue
		}
		o["type"], o["refresh"], o["sort"] = "query", 2, 1
		o["includeAll"], o["multi"], o["current"] = true, true, object{"text": []string{"All"}, "value": []string{"$__all"}}
		if v.SQL != "" {
			o["datasource"], o["query"], o["definition"] = source("log", logType), v.SQL, v.SQL
		} else {
			query := fmt.Sprintf("label_values(%s, %s)", v.Metric, v.Name)
			o["datasource"], o["definition"] = source("metrics", metricsType), query
			o["query"] = object{"query": query, "refId": v.Name}
			if v.Name != "job" { // the jobs must be the relays' own, since process_* and go_* are everybody's
				o["allValue"] = ".*"
			}
		}
		list = append(list, o)
	}
	return list
}

// restarts is asked for the times at which relays started.
const restarts = `changes(process_start_time_seconds{@}[2m]) > 0 and on (job, instance) relay_build_info`

func (d Dashboard) annotations() []object {
	list := []object{{
		"builtIn": 1, "type": "dashboard", "name": "Annotations & Alerts", "enable": true, "hide": true, "iconColor": "rgba(0, 211, 255, 1)",
		"datasource": object{"type": "grafana", "uid": "-- Grafana --"},
	}}
	if d.asksMetrics() {
		list = append(list, object{
			"name": "Restarts", "enable": true, "hide": false, "iconColor": "orange", "datasource": source("metrics", metricsType),
			"expr": expression(restarts), "step": "60s", "titleFormat": "Restart", "textFormat": "{{instance}}",
		})
	}
	return list
}

// panels lays the rows out. A folded row holds its panels.
func (d Dashboard) panels() (list []object) {
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range d.Rows {
		row := object{"id": next(), "type": "row", "title": r.Title, "collapsed": !r.Open, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}}
		y++
		below := y
		var inner []object
		x, high := 0, 0
		for _, p := range r.Panels {
			w, h := p.size()
			if x+w > 24 {
				x, y, high = 0, y+high, 0
			}
			o := p.object()
			o["id"], o["gridPos"] = next(), object{"x": x, "y": y, "w": w, "h": h}
			inner = append(inner, o)
			x, high = x+w, max(high, h)
		}
		if r.Open {
			row["panels"], y = []object{}, y+high
			list = append(append(list, row), inner...)
		} else {
			row["panels"], y = inner, below // they take no room until the row is unfolded
			list = append(list, row)
		}
	}
	return list
}

func (p Panel) size() (w, h int) {
	w, h = p.W, p.H
	if w == 0 {
		w = 8
		if p.Kind == Stat {
			w = 3
		}
	}
	if h == 0 {
		h = 8
		if p.Kind == Stat {
			h = 4
		}
	}
	return w, h
}

// kind is the panel's type, in which "" is Series.
func (p Panel) kind() Kind {
	if p.Kind == "" {
		return Series
	}
	return p.Kind
}

func (p Panel) object() object {
	description := p.About
	if p.Ask != "" {
		description += "\n\nThe requests behind it, on a terminal: `relay logs query " + p.Ask + "`"
	}
	var targets []object
	for i, q := range p.Queries {
		targets = append(targets, p.target(q, string(rune('A'+i))))
	}
	return object{
		"title": p.Title, "description": description, "type": string(p.kind()), "datasource": p.Queries[0].source(), "targets": targets,
		"fieldConfig": object{"defaults": p.defaults(), "overrides": p.overrides()}, "options": p.options(), "transformations": p.transformations(),
	}
}

func (p Panel) target(q Query, ref string) object {
	o := object{"refId": ref, "datasource": q.source()}
	if q.SQL != "" {
		// The plugin's formats: 0 is a time series, 1 a table.
		o["rawSql"], o["editorType"], o["pluginVersion"] = q.SQL, "sql", "4.0.0"
		o["format"], o["queryType"] = 1, "table"
		if p.kind() == Series {
			o["format"], o["queryType"] = 0, "timeseries"
		}
		return o
	}
	o["expr"], o["legendFormat"], o["range"], o["instant"] = expression(q.Expr), q.Legend, !q.Instant, q.Instant
	switch p.kind() {
	case Heatmap:
		o["format"] = "heatmap"
	case Table:
		o["format"] = "table"
	default:
		o["format"] = "time_series"
	}
	return o
}

// expression writes the short forms of Query.Expr out.
func expression(expr string) string {
	const at = `{job=~"$job",instance=~"$instance"`
	return strings.NewReplacer(
		"{@um", at+`,upstream=~"$upstream",model=~"$model"`, "{@u", at+`,upstream=~"$upstream"`, "{@", at, "[r]", "[$__rate_interval]",
	).Replace(expr)
}

func (p Panel) defaults() object {
	d := object{"unit": p.Unit, "noValue": "–"}
	if len(p.Steps) > 0 {
		var steps []object
		for i, s := range p.Steps {
			step := object{"color": s.Color, "value": nil}
			if i > 0 {
				step["value"] = s.At
			}
			steps = append(steps, step)
		}
		d["thresholds"] = object{"mode": "absolute", "steps": steps}
	}
	if len(p.Names) > 0 {
		names := object{}
		for value, name := range p.Names {
			text, color, _ := strings.Cut(name, ":")
			names[value] = object{"text": text, "color": color}
		}
		d["mappings"] = []object{{"type": "value", "options": names}}
	}
	switch p.kind() {
	case Series:
		d["min"] = 0
		custom := object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false, "thresholdsStyle": object{"mode": "off"}, "stacking": object{"mode": "none"}}
		if p.Stacked {
			custom["stacking"], custom["fillOpacity"] = object{"mode": "normal", "group": "A"}, 40
		}
		if len(p.Steps) > 0 {
			custom["thresholdsStyle"] = object{"mode": "dashed"}
		}
		if p.Queries[0].SQL != "" {
			custom["drawStyle"] = "bars"
		}
		d["custom"], d["color"] = custom, object{"mode": "palette-classic"}
		if len(p.Links) > 0 {
			d["links"] = links(p.Links)
		}
	case Stat:
		d["color"] = object{"mode": "thresholds"}
		if p.Unit == Share {
			d["decimals"] = 2
		}
		if len(p.Steps) == 0 {
			d["color"] = object{"mode": "fixed", "fixedColor": "text"}
		}
	case States:
		d["custom"] = object{"lineWidth": 0, "fillOpacity": 70}
	}
	return d
}

// overrides are the units of a table's columns and their links, and colours
// that mean something.
func (p Panel) overrides() []object {
	list := []object{}
	by := func(column string, properties ...object) {
		list = append(list, object{"matcher": object{"id": "byName", "options": column}, "properties": properties})
	}
	for _, column := range slices.Sorted(maps.Keys(p.Columns)) {
		by(column, object{"id": "unit", "value": p.Columns[column]})
	}
	if p.kind() == Table {
		for _, l := range p.Links {
			by(l.Column, object{"id": "links", "value": links([]Link{l})})
		}
	}
	if p.kind() == Series {
		for _, c := range [...][2]string{{"/^2..$/", "green"}, {"/^4..$/", "yellow"}, {"/^5..$/", "red"}} {
			list = append(list, object{"matcher": object{"id": "byRegexp", "options": c[0]}, "properties": []object{{"id": "color", "value": object{"mode": "fixed", "fixedColor": c[1]}}}})
		}
	}
	return list
}

func links(ls []Link) (list []object) {
	for _, l := range ls {
		list = append(list, object{"title": l.Title, "url": l.URL, "targetBlank": false})
	}
	return list
}

func (p Panel) options() object {
	switch p.kind() {
	case Stat:
		return object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}, "colorMode": "background", "graphMode": "area", "textMode": "auto", "justifyMode": "auto",
			"orientation": "auto", "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
		}
	case Heatmap:
		return object{
			"calculate": false, "cellGap": 1, "color": object{"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange", "reverse": false},
			"yAxis":     object{"unit": p.Unit, "axisPlacement": "left"},
			"rowsFrame": object{"layout": "auto"}, "tooltip": object{"mode": "single", "yHistogram": true}, "legend": object{"show": true}, "filterValues": object{"le": 1e-9},
			"showValue": "never", "exemplars": object{"color": "rgba(255,0,255,0.7)"},
		}
	case Table:
		return object{"frameIndex": 0, "showHeader": true, "cellHeight": "sm", "footer": object{"show": false, "reducer": []string{}}}
	case States:
		return object{
			"mergeValues": true, "showValue": "auto", "rowHeight": 0.8, "alignValue": "left",
			"legend": object{"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []string{}}, "tooltip": object{"mode": "single", "sort": "none"},
		}
	}
	return object{
		"legend":  object{"showLegend": true, "displayMode": "table", "placement": "right", "calcs": []string{"lastNotNull", "max"}, "sortBy": "Last *", "sortDesc": true, "width": 180},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
}

// transformations leave out of a table of metrics what says nothing.
func (p Panel) transformations() []object {
	if p.kind() != Table || p.Queries[0].Expr == "" {
		return []object{}
	}
	return []object{{"id": "organize", "options": object{"excludeByName": object{"Time": true, "__name__": true}, "renameByName": object{"Value": p.Value}}}}
}
