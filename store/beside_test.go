package store

import (
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// TestLoadBeside: a store is loaded under another name beside the one that it was
// saved from. Who publishes to that goes on there, and nowhere else.
func TestLoadBeside(t *testing.T) {
	stores := []*statepb.Store{
		{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}},
		{Id: 2, Name: "copy", Durables: []*statepb.Durable{standard(20, "audit")}},
	}
	l := newLoader(t, 5, stores...)
	l.want(OK, AppendResume(nil))
	session := l.want(OK, AppendOpenSession(nil, 1, 0, 0)).Session
	l.want(OK, AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 3)))
	l.want(OK, AppendSuspend(nil, 0))
	file, _ := l.save("flights")
	manifest, list := parts(t, file, 2)
	c := begin(9, manifest, 2)
	l.want(OK, AppendLoadBegin(nil, c))
	for i := range list {
		l.want(OK, AppendLoadPart(nil, 9, uint64(i), &list[i]))
	}
	l.want(OK, AppendLoadCommit(nil, 9, uint64(len(list))))
	l.restart()
	l.want(OK, AppendResume(nil))
	if x, ok := l.m.Session(session); !ok || x.Store != 1 || x.Last != 1 || l.m.Sessions() != 1 {
		t.Errorf("session %+v of %d", x, l.m.Sessions())
	}
	if r := l.want(OK, AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 3))); !r.Duplicate {
		t.Errorf("what was published before is %+v", r)
	}
	l.want(SessionUnknown, AppendPublish(nil, 2, session, 1, 2, plainBatch(t, 1, 3)))
	for _, s := range l.m.Stats() {
		if s.Messages != 3 || s.Durables[0].Pending != 3 {
			t.Errorf("%+v", s)
		}
	}
}
