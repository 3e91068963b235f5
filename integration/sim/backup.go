package sim

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/integration/model"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// backup pins the state of a node at this moment, as cluster.Group.Capture does,
// and reads and saves it later, when much of it may be gone.
func (w *world) backup() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for _, o := range w.nodes {
		if o.up && o.receive > 0 {
			n = o // which may have no state of its own
		}
	}
	if !n.up {
		return
	}
	n.call(func(now cluster.Now) {
		err := n.replica.CheckpointNow(now)
		if errors.Is(err, cluster.ErrInstalling) {
			w.seen.hit(BackupRefused)
			return
		}
		if err != nil || !n.up {
			n.failed(err)
			return
		}
		c, err := n.log.Capture()
		if err != nil {
			n.failed(err)
			return
		}
		w.note(n.id, "backup", c.Applied(), 0, 0)
		want := n.expectation()
		n.after(w.draw(3*second), func() { n.restoresTo(c, want) })
	})
}

// expectation is what a backup of a node must hold: what the log means, if nobody
// has applied more than the node.
type expectation struct {
	applied uint64
	hash    string // of the node's own state
	stores  map[string]uint64
	log     map[string]string // by durable; nil if others have applied more
}

func (n *node) expectation() expectation {
	sum, err := n.svc.Summary()
	if err != nil {
		n.failed(err)
	}
	x := expectation{applied: n.svc.Applied(), hash: sum.StateHash, stores: map[string]uint64{}}
	for _, s := range n.svc.Stats() {
		x.stores[s.Name] = s.ID
	}
	if n.w.judge.AppliedBy(n.id) != n.w.judge.Last() {
		return x
	}
	x.log = map[string]string{}
	n.svc.Durables(0, func(d store.Durable) bool {
		if m := n.w.judge.Machine.Durables[d.ID()]; m != nil {
			x.log[fmt.Sprint(m.Store, " ", m.Name)] = meant(m)
		}
		return true
	})
	if len(x.log) != len(n.w.judge.Machine.Durables) {
		n.w.judge.Failf("replica %d has not the %d durables of the log", n.id, len(n.w.judge.Machine.Durables))
	}
	return x
}

// meant is what the log means of a durable, as text.
func meant(d *model.Durable) string {
	var b strings.Builder
	fmt.Fprintf(&b, "watermark %d", d.Watermark)
	for _, id := range slices.Sorted(maps.Keys(d.Pending)) {
		fmt.Fprintf(&b, " %d:%d", id, d.Ended[id])
	}
	return b.String()
}

// restoresTo reads and saves a capture, and compares the file.
func (n *node) restoresTo(c cluster.Capture, want expectation) {
	w := n.w
	var out bytes.Buffer
	i, err := service.OpenImage(c, nil)
	if err != nil {
		w.judge.Failf("backup of replica %d at %d: %w", n.id, c.Applied(), err)
		return
	}
	_, _, err = i.Save(&out, statefile.Manifest{Cluster: "main"})
	if err = errors.Join(err, i.Close()); err != nil {
		w.judge.Failf("backup of replica %d at %d: %w", n.id, c.Applied(), err)
		return
	}
	got := contents{w: w, ids: want.stores, ended: map[uint32]map[message.ID]uint32{}, pending: map[uint32][]message.ID{}}
	m, _, err := statefile.Verify(&out, got.take)
	switch {
	case err != nil:
		w.judge.Failf("backup of replica %d at %d does not verify: %w", n.id, c.Applied(), err)
	case m.Applied != want.applied || m.StateHash != want.hash:
		w.judge.Failf("backup of replica %d is of entry %d and hash %s, want %d and %s", n.id, m.Applied, m.StateHash, want.applied, want.hash)
	case want.log != nil:
		w.seen.hit(BackupCompared)
		if have := got.durables(); !maps.Equal(have, want.log) {
			w.judge.Failf("backup of replica %d at %d holds\n%v\nby the log it is\n%v", n.id, m.Applied, have, want.log)
		}
	}
}

// contents is what a saved state holds.
type contents struct {
	w       *world
	ids     map[string]uint64 // of stores
	stores  []uint64
	list    []statefile.Durable
	pending map[uint32][]message.ID
	ended   map[uint32]map[message.ID]uint32
}

// take remembers a record, and compares a batch with what its publisher made.
func (c *contents) take(r statefile.Record) error {
	switch r := r.(type) {
	case *statefile.Store:
		c.stores = append(c.stores, c.ids[r.Name])
	case *statefile.Durable:
		c.list = append(c.list, *r)
	case *statefile.Pending:
		for _, run := range r.Runs {
			for id := run.First; id < run.First+message.ID(run.N); id++ {
				c.pending[r.Durable] = append(c.pending[r.Durable], id)
			}
		}
	case *statefile.Counts:
		m := c.ended[r.Durable]
		if m == nil {
			m = map[message.ID]uint32{}
			c.ended[r.Durable] = m
		}
		for _, e := range r.Ended {
			m[e.ID] = e.Times
		}
	case *statefile.Batch:
		b := c.w.batches[xxhash.Sum64(r.Bytes)]
		if b == nil || len(b.Messages) != int(r.Count) {
			return fmt.Errorf("nobody made batch %v", r.First)
		}
		for i, m := range b.Messages {
			if id := uint64(r.First) + uint64(i); c.w.judge.NumberOf(c.stores[r.Store], id) != m.Number {
				return fmt.Errorf("message %d is not the one that the log gave this id", id)
			}
		}
	}
	return nil
}

// durables returns what was read, as meant does.
func (c *contents) durables() map[string]string {
	out := map[string]string{}
	for i, d := range c.list {
		at := uint32(i)
		ids := c.pending[at]
		var b strings.Builder
		fmt.Fprintf(&b, "watermark %d", d.Watermark)
		for _, id := range ids {
			fmt.Fprintf(&b, " %d:%d", id, c.ended[at][id])
		}
		out[fmt.Sprint(c.stores[d.Store], " ", d.Name)] = b.String()
	}
	return out
}
