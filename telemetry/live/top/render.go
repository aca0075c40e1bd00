package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rivo/uniseg"

	"streamrelay/telemetry/live"
)

// style is an ANSI rendition, "" for none.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	title  style = "1;4"
)

// canvas puts lines together that fit a terminal.
type canvas struct {
	width, height int
	colour        bool
	lines         []string
}

// part is a piece of a line.
type part struct {
	text  string
	style style
}

func (c *canvas) styled(s string, st style) string {
	if !c.colour || st == plain || s == "" {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + "\x1b[0m"
}

// line adds a line, cut at the terminal's edge.
func (c *canvas) line(parts ...part) {
	var b strings.Builder
	left := c.width
	for _, p := range parts {
		if left <= 0 {
			break
		}
		n := uniseg.StringWidth(p.text)
		if n > left {
			p.text, n = fit(p.text, left, false), left
		}
		left -= n
		b.WriteString(c.styled(p.text, p.style))
	}
	c.lines = append(c.lines, strings.TrimRight(b.String(), " "))
}

// column of a table: its head, the least and most cells that it takes, and
// whether it stands at the right. What is left over goes to those with grow.
type column struct {
	head  string
	width int
	right bool
	grow  bool
	from  int // shown only on a terminal at least as wide
}

// table adds a head and rows; a row is a text and style for each column.
func (c *canvas) table(columns []column, rows [][]part) { c.put(tableLines(columns, rows, c.width)) }

func (c *canvas) put(lines [][]part) {
	for _, l := range lines {
		c.line(l...)
	}
}

func tableLines(columns []column, rows [][]part, width int) (lines [][]part) {
	left, growing := width, 0
	var on []int
	for i, col := range columns {
		if width >= col.from {
			on = append(on, i)
			left -= col.width + 2
			if col.grow {
				growing++
			}
		}
	}
	widths := make([]int, len(columns))
	for _, i := range on {
		widths[i] = columns[i].width
		if columns[i].grow && left > 0 {
			more := left / growing
			left -= more
			growing--
			widths[i] += more
		}
	}
	build := func(cell func(i int) part) {
		var l []part
		for _, i := range on {
			p := cell(i)
			l = append(l, part{fit(p.text, widths[i], columns[i].right), p.style}, part{"  ", plain})
		}
		lines = append(lines, l)
	}
	build(func(i int) part { return part{columns[i].head, dim} })
	for _, row := range rows {
		build(func(i int) part { return row[i] })
	}
	return lines
}

// render draws the board as height lines at most, each at most width cells
// wide; colour says whether in colours. It reads nothing but its arguments.
func render(b *board, width, height int, colour bool) string {
	c := &canvas{width: width, height: height, colour: colour}
	if b.s == nil {
		why := b.lost
		if why == "" {
			why = "asking the relay"
		}
		c.line(part{"Stream Relay  ", bold}, part{clean(why), yellow})
		return strings.Join(c.lines, "\n") + "\n"
	}
	c.head(b)
	c.figures(b)
	c.upstreams(b.s.Upstreams, max((height-12)/4, 1))
	c.names(b.s, min(max((height-14)/4, 2), live.Shown))
	c.stores(b.s)
	c.requests(b)
	return strings.Join(c.lines, "\n") + "\n"
}

func (c *canvas) head(b *board) {
	r := &b.s.Relay
	state := part{"live", green}
	if b.lost != "" {
		state = part{"reconnecting: " + clean(b.lost), yellow}
	}
	at := time.Unix(b.s.Time, 0)
	c.line(part{"Stream Relay ", bold}, part{clean(r.Version) + "  pid " + strconv.Itoa(r.PID) + "  up " + span(at.Sub(r.Started)) + "  ", plain}, state, part{"  " + at.UTC().Format(time.TimeOnly) + " UTC", dim})
	list := problems(b.s)
	if len(list) == 0 {
		c.line(part{"All is well: ready, upstreams up, nothing dropped", green})
		return
	}
	c.line(part{clean(strings.Join(list, "; ")), yellow})
}

// problems says what is not as it should be.
func problems(s *live.Snapshot) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if !s.Relay.Ready {
		add("not ready: %s", s.Relay.State)
	}
	if !s.Relay.Reload.OK {
		add("the last reload was refused: %s", s.Relay.Reload.Error)
	}
	for _, u := range s.Upstreams {
		if u.State != "up" {
			add("upstream %s is %s", u.Name, u.State)
		}
		for _, cr := range u.Credentials {
			if cr.State == "refused" {
				add("credential %s of %s is refused", cr.Name, u.Name)
			}
		}
	}
	if s.Keys.Phase != "ready" {
		add("keys: %s %s", s.Keys.Phase, s.Keys.Error)
	}
	for _, shard := range s.Log.Shards {
		if !shard.Up {
			add("ClickHouse %s is not there", shard.Name)
		}
	}
	if s.Log.Dropped > 0 {
		add("%s rows of the request log were dropped", whole(s.Log.Dropped))
	}
	return list
}

func (c *canvas) figures(b *board) {
	p := b.s.Point
	of := func(name string) float64 {
		v, ok := p[name]
		if !ok {
			return math.NaN()
		}
		return float64(v)
	}
	group := func(label string, values ...string) []part {
		l := []part{{label + " ", dim}}
		for i, v := range values {
			st := plain
			if i == 0 {
				st = bold
			}
			l = append(l, part{v + " ", st})
		}
		return append(l, part{"  ", plain})
	}
	var first, second []part
	first = append(first, group("Requests/s", count(of("requests")))...)
	first = append(first, group("failed", share(of("failed"), of("requests")))...)
	first = append(first, group("Streams", count(of("streams")))...)
	first = append(first, group("in flight", count(of("in_flight")))...)
	first = append(first, group("Tokens/s out", count(of("tokens_out")))...)
	first = append(first, group("in", count(of("tokens_in")))...)
	first = append(first, group("Connections", count(of("connections")))...)
	first = append(first, group("Requests", whole(b.s.Totals.Requests))...)
	second = append(second, group("TTFT p50", seconds(of("ttft_p50")), "p99 "+seconds(of("ttft_p99")))...)
	second = append(second, group("Gap p50", seconds(of("gap_p50")), "p99 "+seconds(of("gap_p99")))...)
	second = append(second, group("Added p50", seconds(of("added_p50")), "p99 "+seconds(of("added_p99")))...)
	second = append(second, group("Duration p50", seconds(of("duration_p50")), "p99 "+seconds(of("duration_p99")))...)
	c.line(first...)
	c.line(second...)
	const label = "Requests/s "
	c.line(part{label, dim}, part{spark(b.spark, c.width-len(label)), green})
}

// stateStyle is how a state of an upstream or credential is drawn.
func stateStyle(state string) style {
	switch state {
	case "up":
		return green
	case "resting", "half_open":
		return yellow
	}
	return red
}

func failedPart(u *live.Use) part {
	st := plain
	if u.Requests > 0 && u.Failed/u.Requests > .05 {
		st = red
	}
	return part{share(float64(u.Failed), float64(u.Requests)), st}
}

func (c *canvas) upstreams(list []live.Upstream, most int) {
	var rows [][]part
	for i := range list {
		if i == most {
			break
		}
		u := &list[i]
		var credentials []string
		for _, cr := range u.Credentials {
			credentials = append(credentials, fmt.Sprintf("%s %s", clean(cr.Name), cr.State))
		}
		rows = append(rows, []part{
			{clean(u.Name), plain}, {u.State, stateStyle(u.State)}, {count(float64(u.Requests)), plain}, failedPart(&u.Use), {seconds(float64(u.TTFT)), plain},
			{count(float64(u.TokensOut)), plain}, {strconv.FormatInt(u.InFlight, 10), plain}, {fmt.Sprintf("%d/%d", u.Connections, u.Idle), plain}, {strings.Join(credentials, ", "), plain},
		})
	}
	c.table([]column{
		{head: "UPSTREAM", width: 12, grow: true}, {head: "STATE", width: 9}, {head: "REQ/S", width: 6, right: true}, {head: "FAILED", width: 6, right: true}, {head: "TTFT", width: 8, right: true},
		{head: "TOK/S", width: 7, right: true}, {head: "OPEN", width: 5, right: true}, {head: "CONNS", width: 9, right: true, from: 100}, {head: "CREDENTIALS", width: 20, grow: true, from: 110},
	}, rows)
}

func (c *canvas) names(s *live.Snapshot, most int) {
	table := func(head, other string, list []live.Ranked, width int) [][]part {
		var rows [][]part
		for i := range list {
			if i == most {
				break
			}
			r := &list[i]
			name := clean(r.Name)
			if name == "" {
				name = other
			}
			rows = append(rows, []part{{name, plain}, {count(float64(r.Requests)), plain}, failedPart(&r.Use), {seconds(float64(r.TTFT)), plain}, {count(float64(r.TokensOut)), plain}, {whole(r.TotalRequests), plain}})
		}
		return tableLines([]column{
			{head: head, width: 14, grow: true}, {head: "REQ/S", width: 6, right: true}, {head: "FAILED", width: 6, right: true}, {head: "TTFT", width: 8, right: true}, {head: "TOK/S", width: 7, right: true},
			{head: "REQUESTS", width: 11, right: true, from: 66},
		}, rows, width)
	}
	if c.width < 120 {
		c.put(table("TENANT", "other tenants", s.Tenants, c.width))
		c.put(table("MODEL", "other models", s.Models, c.width))
		return
	}
	half := (c.width - 2) / 2
	left, right := table("TENANT", "other tenants", s.Tenants, half), table("MODEL", "other models", s.Models, c.width-2-half)
	for i := range max(len(left), len(right)) {
		var l []part
		if i < len(left) {
			l = append(l, left[i]...)
		} else {
			l = append(l, part{strings.Repeat(" ", half), plain})
		}
		if i < len(right) {
			l = append(l, part{"  ", plain})
			l = append(l, right[i]...)
		}
		c.line(l...)
	}
}

func (c *canvas) stores(s *live.Snapshot) {
	log := "off"
	if s.Log.Kind != "off" {
		log = fmt.Sprintf("%s, %s appended", s.Log.Kind, whole(s.Log.Appended))
		if s.Log.Kind == "clickhouse" {
			log += fmt.Sprintf(", %s stored, %s waiting", whole(s.Log.Stored), whole(uint64(max(s.Log.Waiting, 0))))
		}
		log += fmt.Sprintf(", %s dropped", whole(s.Log.Dropped))
	}
	keys := fmt.Sprintf("%s, %d known, %s", s.Keys.Store, s.Keys.Keys, s.Keys.Phase)
	reload := "in force"
	if !s.Relay.Reload.OK {
		reload = "reload refused"
	}
	c.line(part{"Log ", dim}, part{log, plain}, part{"   Keys ", dim}, part{keys, plain}, part{"   Configuration ", dim}, part{reload, plain})
}

func (c *canvas) requests(b *board) {
	list := b.requests()
	room := max(c.height-len(c.lines)-2, 1) // a head above, the help below
	var rows [][]part
	for i := range list[:min(room, len(list))] {
		r := &list[i]
		st := plain
		if r.Failed {
			st = red
		} else if r.End == "client_gone" {
			st = yellow
		}
		rows = append(rows, []part{
			{time.UnixMilli(r.Time).UTC().Format("15:04:05.000"), plain}, {strconv.Itoa(r.Status), st}, {r.End, st}, {clean(r.Code), plain}, {dash(clean(r.Tenant)), plain}, {dash(clean(r.Model)), plain}, {dash(clean(r.Upstream)), plain},
			{seconds(float64(r.TTFT)), plain}, {seconds(r.Duration), plain}, {count(float64(r.TokensIn)), plain}, {count(float64(r.TokensOut)), plain}, {strconv.Itoa(r.Attempts), plain}, {clean(r.ID), plain},
		})
	}
	if len(rows) == 0 {
		rows = append(rows, []part{{"", plain}, {"", plain}, {"none", dim}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}, {"", plain}})
	}
	c.table([]column{
		{head: "ENDED (UTC)", width: 12}, {head: "ST", width: 3, right: true}, {head: "END", width: 15}, {head: "ERROR", width: 18, from: 150}, {head: "TENANT", width: 8, grow: true, from: 90}, {head: "MODEL", width: 16, grow: true}, {head: "UPSTREAM", width: 11, from: 120},
		{head: "TTFT", width: 7, right: true}, {head: "TIME", width: 7, right: true}, {head: "IN", width: 6, right: true, from: 100}, {head: "OUT", width: 6, right: true}, {head: "TRY", width: 3, right: true, from: 120}, {head: "REQUEST ID", width: 36, from: 180},
	}, rows)
	switch {
	case b.typing:
		c.line(part{"Filter: ", bold}, part{clean(b.filter) + "_", plain}, part{"   Enter keeps it, Esc drops it", dim})
	default:
		says := []string{fmt.Sprintf("%d of %d", min(room, len(list)), len(list)), "sort: " + orderNames[b.sort]}
		if b.failed {
			says = append(says, "failed only")
		}
		if b.filter != "" {
			says = append(says, "filter: "+clean(b.filter))
		}
		if b.paused {
			says = append(says, "paused")
		}
		c.line(part{"q quit  / filter  e failed only  s sort  p pause", dim}, part{"   " + strings.Join(says, ", "), plain})
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
