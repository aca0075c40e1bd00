package logs

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"streamrelay/telemetry/requestlog"
)

// newPrinter returns the printer of an export's format.
func newPrinter(format string, w io.Writer) (printer, error) {
	switch format {
	case "jsonl":
		return newJSONLines(w), nil
	case "csv":
		return newCSV(w)
	case "parquet":
		return newParquet(w), nil
	}
	return nil, usageError{fmt.Errorf("--format: want jsonl, csv or parquet")}
}

// csvRows writes CSV (RFC 4180) with a line of names; what is not known is empty.
type csvRows struct {
	w      *csv.Writer
	fields []string
}

func newCSV(w io.Writer) (*csvRows, error) {
	t := reflect.TypeFor[record]()
	p := &csvRows{csv.NewWriter(w), make([]string, t.NumField())}
	for i := range p.fields {
		p.fields[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return p, p.w.Write(p.fields)
}

func (p *csvRows) row(r *requestlog.Row) error {
	rec := newRecord(r)
	v := reflect.ValueOf(&rec).Elem()
	for i := range p.fields {
		p.fields[i] = csvText(v.Field(i))
	}
	return p.w.Write(p.fields)
}

func csvText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		return x.Format("2006-01-02T15:04:05.000Z")
	case string:
		// A spreadsheet takes such a text for a formula, and clients chose it.
		if x != "" && strings.IndexByte("=+-@\t\r", x[0]) >= 0 {
			return "'" + x
		}
		return x
	case bool:
		return strconv.FormatBool(x)
	case *int64:
		if x == nil {
			return ""
		}
		return strconv.FormatInt(*x, 10)
	case []try:
		if len(x) == 0 {
			return ""
		}
		text, _ := json.Marshal(x) // CSV has no lists
		return string(text)
	}
	return strconv.FormatInt(v.Int(), 10)
}

func (p *csvRows) end() error {
	p.w.Flush()
	return p.w.Error()
}

// parquetRows writes Parquet in row groups of rowGroup rows, which bounds the
// memory.
type parquetRows struct {
	w    *parquet.GenericWriter[record]
	rows []record
	n    int
}

const (
	parquetBatch = 1000
	rowGroup     = 50_000
)

func newParquet(w io.Writer) *parquetRows {
	return &parquetRows{w: parquet.NewGenericWriter[record](w, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("stream-relay", "", "")), rows: make([]record, 0, parquetBatch)}
}

func (p *parquetRows) row(r *requestlog.Row) error {
	p.rows = append(p.rows, newRecord(r))
	if len(p.rows) == parquetBatch {
		return p.flush()
	}
	return nil
}

func (p *parquetRows) flush() error {
	if _, err := p.w.Write(p.rows); err != nil {
		return err
	}
	p.n += len(p.rows)
	p.rows = p.rows[:0]
	if p.n >= rowGroup {
		p.n = 0
		return p.w.Flush()
	}
	return nil
}

func (p *parquetRows) end() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.Close()
}

// buffered is standard output, or another writer, with a buffer.
func buffered(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, 64<<10) }
