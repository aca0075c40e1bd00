package requestlog

import (
	"fmt"
	"testing"
)

// TestAValueIsKnownAgainInTheNextBlockAfterOthersWereTooMany: one client's
// inventions are no other's loss, however many rows blocks have.
func TestAValueIsKnownAgainInTheNextBlockAfterOthersWereTooMany(t *testing.T) {
	b := NewBatch()
	for i := range 2000 {
		b.Append(&Row{UserAgent: fmt.Sprintf("invented/%d", i), Method: fmt.Sprintf("M%d", i)})
	}
	b.Reset()
	want := Row{UserAgent: "OpenAI/Python 2.0", Method: "DELETE"}
	for range 1500 {
		b.Append(&want)
	}
	c, err := copyOf(b)
	if err != nil {
		t.Fatal(err)
	}
	var got Row
	if c.Row(1499, &got); got.UserAgent != want.UserAgent || got.Method != want.Method {
		t.Errorf("user agent %q, method %q", got.UserAgent, got.Method)
	}
}
