package peer

import (
	"testing"
	"time"
)

// Only an append is lone, and only on a connection that no other group uses.
func TestLoneAppends(t *testing.T) {
	a, b := pair(t, nil)
	e, m := heartbeat(5, 1, 2)
	if !a.Send(2, e, m) || await(t, b.messages, "heartbeat").lone {
		t.Error("a control message is lone: what follows from it would hold up every group's")
	}
	send := func(group, index uint64) bool {
		t.Helper()
		e, m := entries(group, 1, 2, index, []byte("x"))
		if !a.Send(2, e, m) {
			t.Fatal("refused")
		}
		return await(t, b.messages, "append").lone
	}
	for i := range uint64(3) {
		if !send(5, 10+i) {
			t.Errorf("append %d of the only group is not lone", i)
		}
	}
	if send(6, 1) || send(6, 2) || send(5, 20) {
		t.Error("an append is lone where another group's came a moment ago")
	}
}

func TestSole(t *testing.T) {
	var c conn
	at := time.Now()
	for i, step := range []struct {
		after time.Duration
		group uint64
		want  bool
	}{
		{0, 5, true}, {0, 5, true}, {time.Hour, 5, true},
		{0, 6, false}, {soleAfter, 6, false}, {1, 6, true},
		{0, 5, false}, {soleAfter / 2, 6, false}, {soleAfter, 6, false}, {1, 6, true},
	} {
		at = at.Add(step.after)
		if got := c.sole(step.group, at); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
