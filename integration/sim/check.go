package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// fullEvery is how many steps there are between full comparisons.
const fullEvery = 50

// check looks at the nodes after a step.
func (w *world) check() {
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		s := n.replica.Status(n.now())
		if s.Role == "leader" {
			w.judge.Leads(s.Term, n.id)
		}
		if first, err := n.log.FirstIndex(); err != nil || first < s.First {
			w.judge.Failf("replica %d: first index of the log is %d (%v), of the replica %d", n.id, first, err, s.First)
		}
		w.judge.At(n.id, s.Commit, s.First)
	}
	if w.step%fullEvery == 0 {
		w.checkFully()
	}
}

// checkFully compares everything there is, replica by replica.
func (w *world) checkFully() {
	pages := map[uint64]map[string]string{} // by applied index
	for _, n := range w.nodes {
		if !n.up || n.receive > 0 || w.judge.Err() != nil {
			continue
		}
		doom := n.doom
		n.doom = notDoomed // this is not the moment
		n.checkpoint(n.now())
		n.doom = doom
		n.kickDisk()
		applied, mine := n.readPages()
		if n.reload() {
			if other := pages[applied]; other != nil && !maps.Equal(other, mine) {
				w.judge.Failf("pages differ at %d: replica %d, %s", applied, n.id, difference(other, mine))
			}
			pages[applied] = mine
		}
		n.checkReadable()
		if w.judge.AppliedBy(n.id) == w.judge.Last() {
			n.compareWithModel()
		}
	}
}

// corePage is the replica's own page, which differs in nothing either.
func (n *node) readPages() (uint64, map[string]string) {
	pages := map[string]string{}
	applied, err := n.log.Pages(func(key, value []byte) error {
		pages[string(key)] = string(value)
		return nil
	})
	if err != nil {
		n.failed(err)
	}
	return applied, pages
}

// reload loads the checkpoint into a fresh machine, which must be like the one
// that wrote it.
func (n *node) reload() bool {
	m := store.New()
	applied, err := n.log.Pages(func(key, value []byte) error {
		if key[0] == 0 {
			return nil
		}
		return m.LoadPage(key, value)
	})
	if err == nil {
		err = m.Loaded(applied)
	}
	if err != nil {
		n.w.judge.Failf("replica %d: the checkpoint does not load: %w", n.id, err)
		return false
	}
	if applied == n.svc.Applied() && m.Hash() != n.svc.Hash() {
		n.w.judge.Failf("replica %d: the checkpoint at %d loads with hash %016x, want %016x", n.id, applied, m.Hash(), n.svc.Hash())
	}
	return applied == n.svc.Applied()
}

func difference(a, b map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if b[k] != a[k] {
			return fmt.Sprintf("page %x is %x here and %x there", k, b[k], a[k])
		}
	}
	return fmt.Sprintf("%d pages here, %d there", len(b), len(a))
}

// checkReadable checks that every pending message can be read.
func (n *node) checkReadable() {
	n.svc.Durables(0, func(d store.Durable) bool {
		var batch store.Batch
		d.Pending().Runs(0, ^message.ID(0), func(first message.ID, count uint64) bool {
			for id := first; id < first+message.ID(count); id = batch.First + message.ID(batch.Count) {
				var ok bool
				if batch, ok = n.svc.Batch(d.Store(), id); !ok {
					n.w.judge.Failf("replica %d: %d is pending in durable %q and in no batch", n.id, id, d.Name())
					return false
				}
				if err := n.readable(batch); err != nil {
					n.w.judge.Failf("dead entry: replica %d: %d is pending in durable %q: %w", n.id, id, d.Name(), err)
					return false
				}
			}
			return true
		})
		return n.w.judge.Err() == nil
	})
}

func (n *node) readable(b store.Batch) error {
	data, err := n.log.Command(b.Index)
	if err != nil {
		return fmt.Errorf("entry %d: %w", b.Index, err)
	}
	if got := n.w.batchAt(data, b.Offset, b.Bytes); got == nil || len(got.Messages) != int(b.Count) {
		return fmt.Errorf("entry %d holds another batch at %d", b.Index, b.Offset)
	}
	return nil
}

// compareWithModel compares the state with what the log means.
func (n *node) compareWithModel() {
	j, seen := n.w.judge, 0
	n.svc.Durables(0, func(d store.Durable) bool {
		want := j.Machine.Durables[d.ID()]
		if want == nil || d.Pending().Len() != uint64(len(want.Pending)) || uint64(d.Watermark()) != want.Watermark {
			j.Failf("replica %d: durable %q has %v and watermark %d; the log means %+v", n.id, d.Name(), d.Pending(), d.Watermark(), want)
			return false
		}
		seen++
		d.Pending().Runs(0, ^message.ID(0), func(first message.ID, count uint64) bool {
			for id := first; id < first+message.ID(count); id++ {
				if _, ok := want.Pending[uint64(id)]; !ok {
					j.Failf("replica %d: %d is pending in durable %q, and is not by the log", n.id, id, d.Name())
				}
				ended, possible := d.Counts(id)
				if ended != want.Ended[uint64(id)] || possible != want.Possible(uint64(id)) {
					j.Failf("replica %d: %d of durable %q has counts %d and %d, by the log %d and %d", n.id, id, d.Name(),
						ended, possible, want.Ended[uint64(id)], want.Possible(uint64(id)))
				}
			}
			return j.Err() == nil
		})
		return j.Err() == nil
	})
	if seen != len(j.Machine.Durables) && j.Err() == nil {
		j.Failf("replica %d has %d durables, by the log there are %d", n.id, seen, len(j.Machine.Durables))
	}
	if _, r := n.svc.Time(); r != j.Machine.Running() {
		j.Failf("replica %d: R is %d, by the log %d", n.id, r, j.Machine.Running())
	}
	for _, s := range n.svc.Stats() {
		messages, bytes := j.Machine.Stores[s.ID].Usage()
		if messages != s.Messages || bytes != s.Bytes {
			j.Failf("replica %d: store %q accounts %d messages and %d bytes, by the log %d and %d", n.id, s.Name, s.Messages, s.Bytes, messages, bytes)
		}
	}
}

// reign is the beginning of a leader's time.
type reign struct {
	at    int64
	stamp int64 // of its first own entry; 0 none yet
}

// leadBegins notes when a leader began to lead.
func (w *world) leadBegins(term uint64) { w.reigns[term] = &reign{at: w.now} }

// checkStamp checks that cluster time runs at most twice as fast as the leader's
// monotonic time.
func (w *world) checkStamp(e cluster.Entry) {
	r := w.reigns[e.Term]
	if r == nil || len(e.Commands) == 0 {
		return
	}
	if r.stamp == 0 {
		r.stamp = e.Stamp
		return
	}
	if got, most := e.Stamp-r.stamp, 2*(w.now-r.at)+2; got > most {
		w.judge.Failf("cluster time advances by %d ns in term %d, in which at most %d ns passed twice", got, e.Term, most/2)
	}
}
