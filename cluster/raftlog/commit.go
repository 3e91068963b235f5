package raftlog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/perdure/perdure/cluster"
)

// rangeDelete is from how many neighbouring entries on one range deletion is
// cheaper than their deletions one by one. A range deletion lets Pebble drop
// whole tables unread, but each costs every later read in its memtable.
const rangeDelete = 16

// maxKeptBatch bounds the buffer of a batch that Pebble keeps for its next use.
const maxKeptBatch = 8 << 20

func (s *pebbleShelf) newBatch() *pebble.Batch {
	return s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(maxKeptBatch))
}

func (s *pebbleShelf) prepare(c *change) {
	b := s.newBatch()
	if err := encode(b, c); err != nil {
		fatal(s.disk.opts, fmt.Errorf("raftlog: encode: %w", err))
	}
	c.ready = b
}

func (s *pebbleShelf) commit(changes []*change, wait bool) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return
	}
	if err := s.apply(changes, wait); err != nil {
		fatal(s.disk.opts, fmt.Errorf("raftlog: write: %w", err))
	}
}

func (s *pebbleShelf) apply(changes []*change, wait bool) error {
	o := pebble.NoSync
	if wait {
		o = pebble.Sync
	}
	if len(changes) == 1 && changes[0].ready != nil {
		b := changes[0].ready
		if err := s.db.Apply(b, o); err != nil {
			return err
		}
		return b.Close()
	}
	b := s.newBatch()
	for _, c := range changes {
		if c.ready != nil {
			if err := b.Apply(c.ready, nil); err != nil {
				return err
			}
			if err := c.ready.Close(); err != nil {
				return err
			}
		} else if err := encode(b, c); err != nil {
			return err
		}
	}
	if err := s.db.Apply(b, o); err != nil {
		return err
	}
	return b.Close()
}

// encode writes c into b. What removes comes before what puts.
func encode(b *pebble.Batch, c *change) error {
	if c.drop != 0 {
		if err := b.DeleteRange(appendKey(nil, c.drop, 0), generationEnd(c.drop), nil); err != nil {
			return err
		}
	}
	if err := encodeRecords(b, c); err != nil {
		return err
	}
	for _, r := range c.dead {
		if err := deleteEntries(b, c.generation, r); err != nil {
			return err
		}
	}
	if err := deleteEntries(b, c.generation, c.cut); err != nil {
		return err
	}
	for _, e := range c.entries {
		op := b.SetDeferred(entryKeySize, entryHeader+len(e.GetData()))
		appendEntryKey(op.Key[:0], c.generation, e.GetIndex())
		putEntry(op.Key, op.Value, e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData())
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return encodePages(b, c)
}

func encodeRecords(b *pebble.Batch, c *change) error {
	put := func(key, content []byte) error { return b.Set(key, sealed(key, content), nil) }
	if c.remove {
		if err := b.Delete(copyKey(c.group), nil); err != nil {
			return err
		}
	}
	if c.record != nil {
		if err := put(copyKey(c.group), c.record.encode()); err != nil {
			return err
		}
	}
	if c.hard != nil {
		if err := put(appendKey(nil, c.generation, kindHard), c.hard.encode()); err != nil {
			return err
		}
	}
	if c.edge == nil {
		return nil
	}
	content, err := c.edge.encode()
	if err != nil {
		return err
	}
	return put(appendKey(nil, c.generation, kindEdge), content)
}

func encodePages(b *pebble.Batch, c *change) error {
	prefix := appendKey(nil, c.generation, kindPage)
	for _, p := range c.pages {
		if p.Value == nil {
			if err := b.Delete(append(prefix[:5:5], p.Key...), nil); err != nil {
				return err
			}
			continue
		}
		op := b.SetDeferred(len(prefix)+len(p.Key), recordHeader+len(p.Value))
		copy(op.Key[copy(op.Key, prefix):], p.Key)
		copy(op.Value[recordHeader:], p.Value)
		seal(op.Key, op.Value, 0)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

func deleteEntries(b *pebble.Batch, generation uint32, r cluster.Range) error {
	if r.Lo >= r.Hi {
		return nil
	}
	if r.Hi-r.Lo >= rangeDelete {
		return b.DeleteRange(appendEntryKey(nil, generation, r.Lo), appendEntryKey(nil, generation, r.Hi), nil)
	}
	for i := r.Lo; i < r.Hi; i++ {
		op := b.DeleteDeferred(entryKeySize)
		appendEntryKey(op.Key[:0], generation, i)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}
