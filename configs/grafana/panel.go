package grafana

// Dashboard is one file.
type Dashboard struct {
	UID, Title, About string
	Range             string // back from now, as now-3h
	Refresh           string
	Variables         []Variable
	Rows              []Row
}

// Row is a heading and its panels, laid out from left to right in 24 columns.
type Row struct {
	Title  string
	Open   bool // the others are folded, and ask nothing until they are unfolded
	Panels []Panel
}

// Variable is a choice above the dashboard. One with neither Metric nor SQL is
// a text to be typed in.
type Variable struct {
	Name, Label string
	Metric      string // its values are those of the label Name of this metric
	SQL         string
	One         bool // not several at once
}

// Kind is the way in which a panel shows its series.
type Kind string

const (
	Stat    Kind = "stat"
	Series  Kind = "timeseries"
	Heatmap Kind = "heatmap"
	Table   Kind = "table"
	States  Kind = "state-timeline"
)

// Units, as Grafana names them.
const (
	Share     = "percentunit"
	Count     = "short"
	PerSecond = "reqps"
	Seconds   = "s"
	Bytes     = "bytes"
	Dollars   = "currencyUSD"
	Times     = "suffix:×"
	Micros    = "µs"
	Time      = "dateTimeAsIso"
	Text      = "string"
	TokensPS  = "suffix: tokens/s"
	RowsPS    = "suffix: rows/s"
)

// Panel is one panel.
type Panel struct {
	Title string
	About string // what it shows, and what to make of it
	Ask   string // arguments of `relay logs query` that show requests behind it
	Kind  Kind   // "": Series
	W, H  int    // 0: 8 columns, 8 lines; of a Stat 3 and 4
	Unit  string
	// Queries have SQL or an expression each.
	Queries []Query
	Stacked bool
	Steps   []Step            // colours from a value on, also drawn as lines in a Series
	Names   map[string]string // of values: text and colour, as "open:red"
	Columns map[string]string // units of a table's columns
	Links   []Link            // where a click leads
	Value   string            // the heading over the values of a Table of metrics
}

// Query asks either data source. In Expr {@ stands for the choice of job and
// instance, {@u of upstream besides, {@um of model besides, and [r] for an
// interval that suits the picture.
type Query struct {
	Expr, SQL string
	Legend    string
	Instant   bool // the newest value alone
}

// Step is a colour that holds from a value on; the first one's value is ignored.
type Step struct {
	At    float64
	Color string
}

// Link is where a click on a series or a table's cell leads.
type Link struct{ Title, URL, Column string }
