package auth

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// recordView is a record as commands print it: without the digest, from which
// a weak imported key could be guessed.
type recordView struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	State    string            `json:"state"` // active | disabled | revoked | expired
	Tenants  []string          `json:"tenants"`
	Models   []string          `json:"models"` // empty: every model
	Created  *time.Time        `json:"created,omitempty"`
	Expires  *time.Time        `json:"expires,omitempty"`
	Disabled bool              `json:"disabled"`
	Revoked  *time.Time        `json:"revoked,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func viewOf(r *Record, now time.Time) recordView {
	optional := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return recordView{
		ID: r.ID, Name: r.Name, State: r.state(now),
		Tenants: r.Tenants, Models: append([]string{}, r.Models...),
		Created: optional(r.Created), Expires: optional(r.Expires),
		Disabled: r.Disabled || !r.Revoked.IsZero(), Revoked: optional(r.Revoked), Metadata: r.Metadata,
	}
}

func (v recordView) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	line("id", v.ID)
	line("name", v.Name)
	line("state", v.State)
	line("tenants", strings.Join(v.Tenants, ", "))
	line("models", orElse(strings.Join(v.Models, ", "), "all"))
	line("created", orElse(timeText(v.Created), "unknown"))
	line("expires", orElse(timeText(v.Expires), "never"))
	if v.Revoked != nil {
		line("revoked", timeText(v.Revoked))
	}
	for _, name := range slices.Sorted(maps.Keys(v.Metadata)) {
		line("metadata "+name, fmt.Sprintf("%q", v.Metadata[name]))
	}
	return w.Flush()
}

func printTable(out io.Writer, records []*Record, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSTATE\tTENANTS\tMODELS\tCREATED\tEXPIRES")
	for _, r := range records {
		v := viewOf(r, now)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Name, v.State, strings.Join(v.Tenants, ","),
			orElse(strings.Join(v.Models, ","), "all"), orElse(timeText(v.Created), "unknown"), orElse(timeText(v.Expires), "never"))
	}
	return w.Flush()
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
