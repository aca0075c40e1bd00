package watch

import (
	"slices"
	"strings"
	"testing"
)

func hashes(ids ...string) (list []uint64) {
	for _, id := range ids {
		list = append(list, HashID(id))
	}
	return list
}

func TestIDsOfStoredObjectsAreSeenHoweverTheyAreCut(t *testing.T) {
	long := "resp_" + strings.Repeat("x", maxName-5)
	for _, c := range []struct {
		body string
		want []uint64
	}{
		{`{"id":"resp_1","object":"response","output":[{"id":"msg_1","type":"message"}]}`, hashes("resp_1")},
		{`{"object":"batch","output_file_id":"file-o","errors":{"id":"no"},"error_file_id":"file-e","id":"batch_1"}`, hashes("file-o", "file-e", "batch_1")},
		{`{"id":"v1_x","object":"interaction","steps":[{"id":"no"}]}`, hashes("v1_x")},
		{`{"interaction":{"id":"v1_x","status":"in_progress"},"event_type":"interaction.created"}`, hashes("v1_x")},
		{`{"id":"upload_1","file":{"id":"file-u","bytes":3}}`, hashes("upload_1", "file-u")},
		{`{"id":"` + long + `"}`, hashes(long)},
		{`{"id":"` + long + `y"}`, nil}, // longer than anything is looked at
		{`{"id":null}`, nil},
		{`{"data":[{"id":"file-1"}]}`, nil},
		{`{"id":"a"}{"id":"b"}{"id":"c"}{"id":"d"}{"id":"e"}`, hashes("a", "b", "c", "d")},
	} {
		for cut := range len(c.body) + 1 {
			var j JSON
			j.Reset()
			j.WantIDs()
			j.Feed([]byte(c.body[:cut]))
			j.Feed([]byte(c.body[cut:]))
			if !slices.Equal(j.IDs(), c.want) {
				t.Errorf("%s cut at %d: %d ids", c.body, cut, len(j.IDs()))
				break
			}
		}
		var j JSON
		j.Reset()
		j.Feed([]byte(c.body))
		if len(j.IDs()) != 0 {
			t.Errorf("%s: ids that nobody wanted", c.body)
		}
	}
	const stream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"usage\":null}}\n\n" +
		"data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"x\"}\n\n" +
		"data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":3}}}\n\n"
	var s Stream
	s.Reset(Responses, false)
	s.WantIDs()
	s.Feed([]byte(stream[:60]), 1)
	s.Feed([]byte(stream[60:]), 2)
	if !slices.Equal(s.IDs(), hashes("resp_1")) {
		t.Errorf("stream: %d ids", len(s.IDs()))
	}
	if u, ok := s.Usage(); !ok || u.Input != 3 {
		t.Error("the usage beside the id is lost")
	}
}
