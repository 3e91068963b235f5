package main

import (
	"testing"
	"time"
)

// What is said of the server itself while it ends is of a term before, however late
// it comes; what is said when it is back counts.
func TestTheServerThatEndsIsNoHeir(t *testing.T) {
	t.Parallel()
	say := func(server string, term uint64) reported {
		return reported{leaders: map[string]leadership{"main": {server, term}}}
	}
	begin := func() *heirs {
		return &heirs{server: "s3", process: 7, began: time.Now(), clusters: say("s3", 2).leaders, found: map[string]succession{}}
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
	// It is back, and leads, before the answer that it was restarted has come.
	h = begin()
	before, after := say("s3", 3), say("s3", 4)
	before.processes, after.processes = map[string]uint64{"s3": 7}, map[string]uint64{"s3": 8}
	if h.note(before) || !h.note(after) || h.result()[0].Server != "s3" {
		t.Errorf("found %v", h.result())
	}
}
