package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"streamrelay/auth/limits"
)

// recordView is a record as commands and the API show it: without the digest,
// from which a weak imported key could be guessed.
type recordView struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	State    string            `json:"state"` // active | disabled | revoked | expired
	Tenants  []string          `json:"tenants"`
	Models   []string          `json:"models"`          // empty: every model
	Paths    []string          `json:"paths,omitempty"` // empty: every path
	Limits   *limits.Limits    `json:"limits,omitempty"`
	Usage    *usageView        `json:"usage,omitempty"` // of those limits
	Created  *time.Time        `json:"created,omitempty"`
	Expires  *time.Time        `json:"expires,omitempty"`
	Disabled bool              `json:"disabled"`
	Revoked  *time.Time        `json:"revoked,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`

	used limits.Usage
}

// usageView leaves out what is not known or not limited.
type usageView struct {
	Requests   *int64        `json:"requests,omitempty"`
	Tokens     *int64        `json:"tokens,omitempty"`
	Concurrent *int64        `json:"concurrent,omitempty"`
	Day        *limits.Money `json:"day,omitempty"`
	Month      *limits.Money `json:"month,omitempty"`
}

func viewOf(r *Record, now time.Time) recordView {
	v := recordView{
		ID: r.ID, Name: r.Name, State: r.state(now),
		Tenants: r.Tenants, Models: append([]string{}, r.Models...), Paths: r.Paths,
		Created: optionalTime(r.Created), Expires: optionalTime(r.Expires),
		Disabled: r.Disabled || !r.Revoked.IsZero(), Revoked: optionalTime(r.Revoked), Metadata: r.Metadata,
		used: limits.UnknownUsage,
	}
	if !r.Limits.None() {
		v.Limits = &r.Limits
	}
	return v
}

// usageOf shows what was used of limits.
func usageOf(l limits.Limits, u limits.Usage) *usageView {
	v := &usageView{}
	show := func(to **int64, limit, used int64) {
		if limit > 0 && used >= 0 {
			*to = &used
		}
	}
	show(&v.Requests, l.Requests, u.Requests)
	show(&v.Tokens, l.Tokens, u.Tokens)
	show(&v.Concurrent, l.Concurrent, u.Concurrent)
	if l.BudgetDay > 0 && u.Day >= 0 {
		v.Day = &u.Day
	}
	if l.BudgetMonth > 0 && u.Month >= 0 {
		v.Month = &u.Month
	}
	if *v == (usageView{}) {
		return nil
	}
	return v
}

// viewsOf shows records with what they used, as far as the store tells.
func viewsOf(ctx context.Context, k keeper, records []*Record, now time.Time) ([]recordView, error) {
	views := make([]recordView, len(records))
	var scopes []string
	var of []limits.Limits
	var at []int
	for i, r := range records {
		views[i] = viewOf(r, now)
		if !r.Limits.None() {
			scopes, of, at = append(scopes, keyScope(r.ID)), append(of, r.Limits), append(at, i)
		}
	}
	used, err := k.usage(ctx, scopes, of)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		views[i].used, views[i].Usage = used[j], usageOf(of[j], used[j])
	}
	return views, nil
}

// tenantView is a tenant as commands and the API show it.
type tenantView struct {
	Tenant string        `json:"tenant"`
	Limits limits.Limits `json:"limits"`
	Usage  *usageView    `json:"usage,omitempty"`

	used limits.Usage
}

func tenantViews(ctx context.Context, k keeper, tenants []*Tenant) ([]tenantView, error) {
	scopes, of := make([]string, len(tenants)), make([]limits.Limits, len(tenants))
	for i, t := range tenants {
		scopes[i], of[i] = tenantSubject+t.Name, t.Limits
	}
	used, err := k.usage(ctx, scopes, of)
	if err != nil {
		return nil, err
	}
	views := make([]tenantView, len(tenants))
	for i, t := range tenants {
		views[i] = tenantView{t.Name, t.Limits, usageOf(t.Limits, used[i]), used[i]}
	}
	return views, nil
}

// limitsText says limits, and what was used of them, in one line.
func limitsText(l limits.Limits, u limits.Usage) string {
	var parts []string
	add := func(limit, used int64, unit string, text func(int64) string) {
		switch {
		case limit == 0:
		case used < 0:
			parts = append(parts, text(limit)+unit)
		default:
			parts = append(parts, text(used)+"/"+text(limit)+unit)
		}
	}
	number := func(n int64) string { return fmt.Sprint(n) }
	money := func(n int64) string { return "$" + limits.Money(n).String() }
	add(l.Requests, u.Requests, " requests/min", number)
	add(l.Tokens, u.Tokens, " tokens/min", number)
	add(l.Concurrent, u.Concurrent, " concurrent", number)
	add(int64(l.BudgetDay), int64(u.Day), " a day", money)
	add(int64(l.BudgetMonth), int64(u.Month), " a month", money)
	return orElse(strings.Join(parts, ", "), "none")
}

func (v recordView) limitsText() string {
	if v.Limits == nil {
		return "none"
	}
	return limitsText(*v.Limits, v.used)
}

func (v recordView) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	line("id", v.ID)
	line("name", v.Name)
	line("state", v.State)
	line("tenants", strings.Join(v.Tenants, ", "))
	line("models", orElse(strings.Join(v.Models, ", "), "all"))
	line("paths", orElse(strings.Join(v.Paths, ", "), "all"))
	line("limits", v.limitsText())
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

func printTable(out io.Writer, views []recordView) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSTATE\tTENANTS\tMODELS\tCREATED\tEXPIRES\tLIMITS")
	for _, v := range views {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Name, v.State, strings.Join(v.Tenants, ","),
			orElse(strings.Join(v.Models, ","), "all"), orElse(timeText(v.Created), "unknown"), orElse(timeText(v.Expires), "never"), v.limitsText())
	}
	return w.Flush()
}

func printTenants(out io.Writer, views []tenantView) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tLIMITS")
	for _, v := range views {
		fmt.Fprintf(w, "%s\t%s\n", v.Tenant, limitsText(v.Limits, v.used))
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
