package service

import (
	"bytes"
	"errors"
	"io"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// savedState returns a state of store flights: messages 1 to 5, which both durables
// want.
func savedState(t *testing.T) []byte {
	t.Helper()
	data := batch(5)
	records := []statefile.Record{&statefile.Store{Name: "flights", Counter: 5}}
	for i, kind := range []durable.Kind{durable.KindStandard, durable.KindShared} {
		records = append(records, &statefile.Durable{Name: []string{"audit", "delays"}[i], Kind: kind, Prefetch: 100, Matched: 5, Marks: []byte{0}})
	}
	for i := range uint32(2) {
		records = append(records, &statefile.Pending{Durable: i, Runs: []statefile.Run{{First: 1, N: 5}}})
	}
	records = append(records, &statefile.Batch{First: 1, Count: 5, Stamp: 1, Len: uint32(len(data)), Bytes: data})
	tally := statefile.NewTally(0)
	for _, r := range records {
		if err := tally.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	w, err := statefile.NewWriter(&out, &statefile.Manifest{Time: 1, Summary: tally.Summary()})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// load loads a file in place of store flights.
func (r *rig) load(file []byte) {
	r.t.Helper()
	for _, c := range r.loading(file) {
		if res := r.run(c); res.Code != store.OK {
			r.t.Fatalf("%s: %+v", store.Command(c), res)
		}
	}
}

// loading returns the commands that load a file in place of store flights.
func (r *rig) loading(file []byte) [][]byte {
	r.t.Helper()
	in, err := statefile.NewReader(bytes.NewReader(file))
	if err != nil {
		r.t.Fatal(err)
	}
	commands := [][]byte{store.AppendLoadBegin(nil, &statepb.LoadBegin{Load: 1, StateHash: in.Manifest().StateHash, Time: 1, Replace: true,
		Stores: []*statepb.LoadTarget{{Name: "flights", Store: flights}}})}
	parts := uint64(0)
	for ; ; parts++ {
		b, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			r.t.Fatal(err)
		}
		commands = append(commands, store.AppendLoadPart(nil, 1, parts, b))
	}
	return append(commands, store.AppendLoadCommit(nil, 1, parts))
}

// Where a saved state takes the place of what was delivered, subscribers attach
// anew and get all of it, from its first message on.
func TestLoadedBeginsAnew(t *testing.T) {
	r := newRig(t)
	a, b := r.subscribe(audit, 1, 100), r.subscribe(delays, 2, 100)
	r.publish(3)
	a.wantIDs(t, 1, 2, 3)
	b.wantIDs(t, 1, 2, 3)
	r.s.Settle(a.ID, acks(1, 1), r.now())
	quiet := r.suspend()
	r.pass(grace)
	quiet.want(t, 1, 5, nil)
	r.load(savedState(t))
	a.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	b.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	r.resume()
	a.wantIDs(t, 1, 2, 3)
	for _, s := range []*subscriber{r.subscribe(audit, 1, 100), r.subscribe(delays, 2, 100)} {
		s.wantIDs(t, 1, 2, 3, 4, 5)
		r.s.Settle(s.ID, acks(1, 5), r.now())
		r.settle()
		r.pass(10 * millisecond)
		if n := r.pending(s.Durable); n != 0 {
			t.Errorf("%d pending in durable %d", n, s.Durable)
		}
	}
}

// An acknowledgement of what was delivered before does not settle what is loaded,
// however late it comes: nobody is attached from the beginning of a load on.
func TestLoadBeginsWithoutSubscribers(t *testing.T) {
	r := newRig(t)
	a := r.subscribe(audit, 1, 100)
	r.publish(3)
	a.wantIDs(t, 1, 2, 3)
	r.suspend()
	commands := r.loading(savedState(t))
	r.run(commands[0])
	a.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	asked := false
	m := acks(1, 3)
	m.Done = func(bool, bool) { asked = true }
	r.s.Settle(a.ID, m, r.now())
	if !asked || len(r.s.waiting) > 0 {
		t.Error("an acknowledgement is taken while a state is loaded")
	}
	for _, c := range commands[1:] {
		if res := r.run(c); res.Code != store.OK {
			t.Fatalf("%s: %+v", store.Command(c), res)
		}
	}
	r.pass(grace)
	r.settle()
	if n := r.pending(audit); n != 5 {
		t.Errorf("%d messages are pending of 5 that were loaded", n)
	}
}
