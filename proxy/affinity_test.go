package proxy

import (
	"fmt"
	"testing"

	"streamrelay/pool"
	"streamrelay/proxy/watch"
)

func TestAffinityForgetsTheOldestFirstAndIsBounded(t *testing.T) {
	var a affinity
	made := []*pool.Account{new(pool.Account), new(pool.Account)}
	if a.find([]byte("resp_0")) != nil || a.findIn([]byte(`{"file_id":"resp_0"}`)) != nil {
		t.Error("it knows something")
	}
	const n = 3 * affinityShards * affinityRoom
	for i := range n {
		a.learn(watch.HashID(fmt.Sprint("resp_", i)), made[i%2])
	}
	held := 0
	for i := range a.shards {
		s := &a.shards[i]
		if len(s.of) > affinityRoom || len(s.ring) > affinityRoom {
			t.Fatalf("a shard holds %d and %d", len(s.of), len(s.ring))
		}
		held += len(s.of)
	}
	if held < affinityShards*affinityRoom*9/10 {
		t.Errorf("only %d are held", held)
	}
	known := 0
	for i := n - affinityShards*affinityRoom/2; i < n; i++ { // the newer half
		if c := a.find([]byte(fmt.Sprint("resp_", i))); c != nil {
			known++
			if c != made[i%2] {
				t.Fatalf("%d is another's", i)
			}
		}
	}
	if want := affinityShards * affinityRoom / 2; known < want*99/100 {
		t.Errorf("%d of the newest %d are known", known, want)
	}
	if a.find([]byte("resp_0")) != nil {
		t.Error("the oldest is still known")
	}
}

func TestFilesInABodyAreFoundWhereTheyAreKeys(t *testing.T) {
	var a affinity
	c := new(pool.Account)
	a.learn(watch.HashID("file-1"), c)
	for body, want := range map[string]bool{
		`{"input_file_id":"file-1"}`:                         true,
		`{"a":[{"file":{"file_id" :` + "\n" + `"file-1"}}]}`: true,
		`{"file_id":"file-2","x":{"file_id":"file-1"}}`:      true,
		`{"text":"\"file_id\":\"file-1\""}`:                  false,
		`{"file_id":"file-2"}`:                               false,
		`{"file_id":7}`:                                      false,
		`{"file_id"`:                                         false,
		`{"file_id":"file-1`:                                 false,
		``:                                                   false,
	} {
		if got := a.findIn([]byte(body)) == c; got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
