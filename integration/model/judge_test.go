package model

import (
	"strings"
	"testing"
)

// story is a history in which all is well: one store, a standard durable of
// everything and a shared one of group 1.
type story struct {
	*Judge
	index, number uint64
}

const (
	audit  = 1
	shared = 2
	term   = 3
)

func newStory() *story {
	s := &story{Judge: New()}
	s.Began(1, 0, 0, false)
	s.Began(2, 0, 0, false)
	s.Leads(term, 1)
	s.entry()
	s.Check(s.Machine.Deploy(1, []Definition{{ID: 1, Durables: []Static{
		{ID: audit, Name: "audit", Standard: true, Interest: Interest{All: true}},
		{ID: shared, Name: "shared", Interest: Interest{Group: 1}},
	}}}, Result{Code: "ok"}))
	s.entry()
	s.Check(s.Machine.OpenSession(1, Result{Code: "ok", Session: 1, Attempt: 1}))
	return s
}

// entry begins an entry of replica 1.
func (s *story) entry() {
	s.index++
	s.Applied(1, Entry{Index: s.index, Term: term, Stamp: int64(s.index), Content: s.index, State: s.index})
	s.Machine.Advance(term, int64(s.index))
}

// batch makes n messages of a group.
func (s *story) batch(n, group int) *Batch {
	b := &Batch{Sum: s.number + 1000, Bytes: 100}
	for range n {
		s.number++
		c := Content{Number: s.number, Sum: s.number * 7, Group: group}
		s.Publishing(1, c)
		b.Messages = append(b.Messages, c)
	}
	return b
}

// publish stores a batch as the next of session 1.
func (s *story) publish(b *Batch, sequence, first uint64) {
	s.entry()
	s.Publish(Publish{Store: 1, Session: 1, Attempt: 1, Sequence: sequence, Batch: b},
		Result{Code: "ok", Session: 1, Attempt: 1, Last: sequence, First: first, Count: uint32(len(b.Messages)), Interested: true})
}

func (s *story) dispatch(durable, sub, id uint64) {
	s.Dispatched(Dispatch{Term: term, Durable: durable, Subscription: sub, ID: id})
}

// TestJudge tells stories in which one thing is wrong. The judge must see it,
// and must see nothing where all is well.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name, want string
		tell       func(*story)
	}{
		{"all is well", "", func(s *story) {
			b := s.batch(3, 1)
			s.publish(b, 1, 1)
			s.Confirmed(b, 1)
			for id := uint64(1); id <= 3; id++ {
				s.dispatch(audit, 10, id)
				s.Received(audit, id, id, id*7)
				s.Acked(term, audit, 10, id)
			}
			s.entry()
			s.Settle(audit, []Range{{1, 3}}, Result{Code: "ok", Durable: audit})
			s.SettledSync(term, audit, 3)
			s.Drained(audit)
		}},
		{"two leaders", "two leaders", func(s *story) { s.Leads(term, 2) }},
		{"log matching", "log matching", func(s *story) { s.Written(1, 5, 3, 1, 2); s.Written(2, 5, 3, 9, 2) }},
		{"log matching before", "log matching", func(s *story) { s.Written(1, 5, 3, 1, 2); s.Written(2, 5, 3, 1, 1) }},
		{"changed entry", "changed", func(s *story) { s.Applied(2, Entry{Index: 1, Term: term, Stamp: 1, Content: 9, State: 1}) }},
		{"other results", "other results", func(s *story) {
			s.Applied(2, Entry{Index: 1, Term: term, Stamp: 1, Content: 1, State: 1, Results: 5})
		}},
		{"diverged", "diverges", func(s *story) { s.Applied(2, Entry{Index: 1, Term: term, Stamp: 1, Content: 1, State: 5}) }},
		{"gap", "out of order", func(s *story) { s.Applied(2, Entry{Index: 2, Term: term, Stamp: 2, Content: 2, State: 2}) }},
		{"twice", "out of order", func(s *story) { s.Applied(1, Entry{Index: 1, Term: term, Stamp: 1, Content: 1, State: 1}) }},
		{"stamp falls", "stamp", func(s *story) { s.Applied(1, Entry{Index: s.index + 1, Term: term}) }},
		{"commit falls", "falls", func(s *story) { s.At(1, 9, 1); s.At(1, 8, 1) }},
		{"first falls", "falls", func(s *story) { s.At(1, 9, 2); s.At(1, 9, 1) }},
		{"not committed", "is committed", func(s *story) { s.At(1, 1, 1) }},
		{"restart with another state", "loads the state", func(s *story) { s.Began(2, 1, 99, false) }},
		{"snapshot goes back", "installs", func(s *story) { s.Began(1, 1, 1, true) }},
		{"state of nobody", "nobody applied", func(s *story) { s.Began(2, 50, 1, false) }},

		{"wrong id", "publish: answered", func(s *story) { s.publish(s.batch(1, 1), 1, 2) }},
		{"gap accepted", "publish: answered", func(s *story) { s.publish(s.batch(1, 1), 2, 1) }},
		{"stored twice", "publish: answered", func(s *story) {
			b := s.batch(1, 1)
			s.publish(b, 1, 1)
			s.publish(b, 1, 2)
		}},
		{"two ids under two sequences", "duplicate", func(s *story) {
			b := s.batch(1, 1)
			s.publish(b, 1, 1)
			s.publish(b, 2, 2)
		}},
		{"phantom", "phantom", func(s *story) {
			s.publish(&Batch{Bytes: 1, Messages: []Content{{Number: 77, Group: 1}}}, 1, 1)
		}},
		{"refused and stored", "refused", func(s *story) {
			b := s.batch(1, 1)
			s.Refused(b)
			s.publish(b, 1, 1)
		}},
		{"stored and refused", "refused", func(s *story) {
			b := s.batch(1, 1)
			s.publish(b, 1, 1)
			s.Refused(b)
		}},
		{"confirmed and not stored", "in no log", func(s *story) { s.Confirmed(s.batch(1, 1), 1) }},
		{"confirmed under another id", "confirmed as", func(s *story) {
			b := s.batch(1, 1)
			s.publish(b, 1, 1)
			s.Confirmed(b, 2)
		}},

		{"delivered to who does not want it", "does not want", func(s *story) {
			s.publish(s.batch(1, 2), 1, 1)
			s.dispatch(shared, 10, 1)
		}},
		{"two holders", "exclusivity", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.dispatch(shared, 11, 1)
		}},
		{"again after a nack with the same count", "counts", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.Nacked(shared, 10, 1)
			s.dispatch(shared, 11, 1)
		}},
		{"again after the subscriber left", "", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.Left(10)
			s.Dispatched(Dispatch{Term: term, Durable: shared, Subscription: 11, ID: 1, Ended: 1})
		}},
		{"after an acknowledgement", "acknowledged by its holder", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.Acked(term, shared, 10, 1)
			s.Dispatched(Dispatch{Term: term, Durable: shared, Subscription: 11, ID: 1, Ended: 1})
		}},
		{"after a confirmed acknowledgement", "confirmed as settled", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.Acked(term, shared, 10, 1)
			s.SettledSync(term, shared, 1)
			s.Dispatched(Dispatch{Term: term + 1, Durable: shared, Subscription: 11, ID: 1, Possible: 1})
		}},
		{"failover without a possible count", "possible", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.dispatch(shared, 10, 1)
			s.Dispatched(Dispatch{Term: term + 1, Durable: shared, Subscription: 11, ID: 1})
		}},
		{"out of order", "order", func(s *story) {
			s.publish(s.batch(2, 1), 1, 1)
			s.dispatch(audit, 10, 2)
			s.dispatch(audit, 10, 1)
		}},
		{"an older holder", "holder", func(s *story) {
			s.publish(s.batch(2, 1), 1, 1)
			s.Dispatched(Dispatch{Term: term, Durable: audit, Subscription: 11, Attach: 2, ID: 1})
			s.Dispatched(Dispatch{Term: term, Durable: audit, Subscription: 10, Attach: 1, ID: 2})
		}},
		{"settled by nobody", "nobody acknowledged", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.Settle(audit, []Range{{1, 1}}, Result{Code: "ok", Durable: audit})
		}},
		{"other content", "is delivered as", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.Received(audit, 1, 1, 8)
		}},
		{"lost", "lost", func(s *story) {
			s.publish(s.batch(1, 1), 1, 1)
			s.Drained(audit)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStory()
			if s.Err() != nil {
				t.Fatal(s.Err())
			}
			test.tell(s)
			switch err := s.Err(); {
			case test.want == "" && err != nil:
				t.Fatalf("judged wrong: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Fatalf("got %v, want %q", err, test.want)
			}
		})
	}
}

// The machine's rules for sessions, limits and marks, by example.
func TestMachine(t *testing.T) {
	s := newStory()
	m := s.Machine
	publish := func(b *Batch, attempt uint32, sequence uint64) (Result, bool) {
		r, stored := m.publishIn(m.Stores[1], m.sessions[1], Publish{Store: 1, Session: 1, Attempt: attempt, Sequence: sequence, Batch: b})
		return r, stored
	}
	want := func(r Result, code string, duplicate bool) {
		t.Helper()
		if r.Code != code || r.Duplicate != duplicate {
			t.Errorf("answered %+v, want %q, duplicate %v", r, code, duplicate)
		}
	}
	if err := m.RaiseWatermark(shared, 0, Result{Code: "ok", Durable: shared}); err != nil {
		t.Fatal(err)
	}
	first := s.batch(2, 1)
	r, _ := publish(first, 1, 1)
	want(r, "ok", false)
	r, _ = publish(first, 1, 1)
	want(r, "ok", true)
	r, _ = publish(s.batch(1, 1), 1, 1)
	want(r, "sequence reused", false)
	r, _ = publish(s.batch(1, 1), 1, 3)
	want(r, "sequence gap", false)
	m.Stores[1].MessageLimit = 2
	r, _ = publish(s.batch(1, 1), 1, 2)
	want(r, "store full", false)
	r, _ = publish(s.batch(1, 1), 1, 2)
	want(r, "aborted", false)
	m.Stores[1].MessageLimit = 0
	r, _ = publish(s.batch(1, 1), 2, 2)
	want(r, "ok", false)
	for n := uint64(3); n < 80; n++ {
		r, _ = publish(s.batch(1, 2), 2, n)
		want(r, "ok", false)
	}
	r, _ = publish(first, 1, 1)
	want(r, "receipt forgotten", true)

	d := m.Durables[shared]
	if len(d.Pending) != 3 || d.Watermark != 3 {
		t.Fatalf("%d pending, watermark %d", len(d.Pending), d.Watermark)
	}
	m.Advance(term+1, 0)
	m.Advance(term+2, 0)
	if d.Possible(3) != 1 || d.Possible(4) != 0 {
		t.Errorf("possible counts %d and %d", d.Possible(3), d.Possible(4))
	}
	if messages, bytes := m.Stores[1].Usage(); messages != 80 || bytes != 2*50+78*100 {
		t.Errorf("usage is %d messages, %d bytes", messages, bytes)
	}
	m.Advance(term+2, sessionIdle+10)
	if !m.SessionExpired(1) {
		t.Error("the session has not expired")
	}
}
