package auth

import (
	"testing"
	"time"

	"streamrelay/auth/limits"
)

// allLimits has one of each, none of them near.
var allLimits = limits.Limits{Requests: 6000, Tokens: 1_000_000, Concurrent: 10, BudgetDay: 10 * limits.Dollar, BudgetMonth: 100 * limits.Dollar}

// admitOnce does what the proxy does with one request.
func admitOnce(t *testing.T, r *relayOf, key string) {
	t.Helper()
	rec, status := r.Table().LookupFrom([]byte(key), clientAddr, time.Now().Unix())
	if status != Found {
		t.Fatal(status)
	}
	tenant, _ := rec.Tenant(nil)
	var g limits.Grant
	if refusal, ok := r.Admit(&g, rec, tenant, &limits.Ask{BodyBytes: 400, MaxTokens: 100, Model: []byte("m")}); !ok {
		t.Fatalf("%+v", refusal)
	}
	g.Settle(&limits.Outcome{Sent: true, Known: true, Input: 100, Output: 50, Model: []byte("m")})
}
