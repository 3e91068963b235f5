package main

import (
	"testing"
	"time"
)

// What is said of the server itself while it ends is of a term before, however late
// it comes; what is said when it is back counts.
func TestTheServerThatEndsIsNoHeir(t *testing.T) {
	t.Parallel()
	say := func(server string, term uint64) map[string]leadership {
		return map[string]leadership{"main": {server, term}}
	}
	begin := func() *heirs {
		return &heirs{server: "s3", began: time.Now(), clusters: say("s3", 2), found: map[string]succession{}}
	}
	h := begin()
	if h.note(say("s3", 3)) || h.note(say("", 4)) || h.note(say("s1", 3)) {
		t.Errorf("found %v", h.result())
	}
	if !h.note(say("s1", 4)) || h.result()[0].Server != "s1" {
		t.Errorf("found %v", h.result())
	}
	h = begin()
	h.note(say("s3", 3))
	h.ended = true
	if h.note(say("s3", 3)) || !h.note(say("s3", 4)) || h.result()[0].Server != "s3" {
		t.Errorf("found %v", h.result())
	}
}
