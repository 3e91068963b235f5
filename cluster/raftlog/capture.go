package raftlog

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// pieceBytes is how much of a capture is read at a time. Between pieces the
// engine can close, however slow the reader is.
const pieceBytes = 1 << 20

// pebbleCapture is a pinned view of one copy.
type pebbleCapture struct {
	shelf      *pebbleShelf
	snapshot   *pebble.Snapshot
	group      uint64
	generation uint32
	edge       edge
}

func (s *pebbleShelf) capture(group uint64) (cluster.Capture, error) {
	s.life.Lock()
	defer s.life.Unlock()
	return s.pin(group)
}

// pin makes a capture; life is held.
func (s *pebbleShelf) pin(group uint64) (*pebbleCapture, error) {
	if s.life.closed {
		return nil, ErrClosed
	}
	c := &pebbleCapture{shelf: s, snapshot: s.db.NewSnapshot(), group: group}
	if err := c.begin(); err != nil {
		return nil, errors.Join(err, c.snapshot.Close())
	}
	s.life.pins.Lock()
	defer s.life.pins.Unlock()
	s.life.captures[c] = struct{}{}
	return c, nil
}

// begin reads from the snapshot where it is.
func (c *pebbleCapture) begin() error {
	content, err := c.shelf.value(c.snapshot, copyKey(c.group))
	if err != nil {
		return err
	}
	if content == nil {
		// A copy of which nothing is left.
		c.edge.conf = &pb.ConfState{}
		return nil
	}
	r, err := parseCopy(content)
	if err != nil {
		return &CorruptError{What: "the record of its copy", Err: err}
	}
	c.generation = r.generation
	if content, err = c.shelf.value(c.snapshot, appendKey(nil, c.generation, kindEdge)); err != nil {
		return err
	}
	if c.edge, err = parseEdge(content); err != nil {
		return &CorruptError{What: "its edge", Err: err}
	}
	return nil
}

func (c *pebbleCapture) Applied() uint64 { return c.edge.applied }

func (c *pebbleCapture) Pages(yield func(key, value []byte) error) error {
	from := appendKey(nil, c.generation, kindPage)
	for from != nil {
		pages, next, err := c.pages(from)
		if err != nil {
			return inGroup(err, c.group)
		}
		for _, p := range pages {
			if err := yield(p.Key, p.Value); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// pages reads a piece from a key on, and returns the key to go on with, nil at
// the end.
func (c *pebbleCapture) pages(from []byte) (pages []cluster.Page, next []byte, err error) {
	c.shelf.life.RLock()
	defer c.shelf.life.RUnlock()
	if c.shelf.life.closed {
		return nil, nil, ErrClosed
	}
	it, err := c.snapshot.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: appendKey(nil, c.generation, kindPage+1)})
	if err != nil {
		return nil, nil, c.shelf.corrupt(err, 0)
	}
	size := 0
	for ok := it.First(); ok; ok = it.Next() {
		if size >= pieceBytes {
			next = append([]byte(nil), it.Key()...)
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, errors.Join(c.shelf.corrupt(err, 0), it.Close())
		}
		content, err := unseal(it.Key(), append([]byte(nil), v...))
		if err != nil {
			return nil, nil, errors.Join(&CorruptError{What: "a page", Err: err}, it.Close())
		}
		key := append([]byte(nil), it.Key()[5:]...)
		pages = append(pages, cluster.Page{Key: key, Value: content})
		size += len(key) + len(content)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, nil, c.shelf.corrupt(err, 0)
	}
	return pages, next, nil
}

func (c *pebbleCapture) Entries(live []cluster.Range, yield func(index uint64, data []byte) error) error {
	for _, r := range live {
		r.Hi = min(r.Hi, c.edge.applied+1)
		for r.Lo < r.Hi {
			entries, err := c.entries(r)
			if err != nil {
				return inGroup(err, c.group)
			}
			for _, e := range entries {
				if err := yield(e.GetIndex(), e.GetData()); err != nil {
					return err
				}
			}
			r.Lo += uint64(len(entries))
		}
	}
	return nil
}

// entries reads a piece of r, from its beginning.
func (c *pebbleCapture) entries(r cluster.Range) ([]*pb.Entry, error) {
	c.shelf.life.RLock()
	defer c.shelf.life.RUnlock()
	if c.shelf.life.closed {
		return nil, ErrClosed
	}
	var entries []*pb.Entry
	size, at := 0, r.Lo
	err := c.shelf.scanFrom(c.snapshot, c.generation, r, func(e *pb.Entry) bool {
		if e.GetIndex() != at || size >= pieceBytes {
			return false
		}
		entries = append(entries, e)
		size += len(e.GetData())
		at++
		return true
	})
	if err == nil && len(entries) == 0 {
		err = &CorruptError{Index: r.Lo, What: "it is pinned and not there"}
	}
	return entries, err
}

func (c *pebbleCapture) Close() error {
	c.shelf.life.RLock()
	defer c.shelf.life.RUnlock()
	c.shelf.life.pins.Lock()
	defer c.shelf.life.pins.Unlock()
	if _, ok := c.shelf.life.captures[c]; !ok {
		return nil
	}
	delete(c.shelf.life.captures, c)
	return c.snapshot.Close()
}
