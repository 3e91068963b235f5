package statefile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/perdure/perdure/message"
)

// Difference is something that two states do not have in common. "" of A or B
// means that it is not there.
type Difference struct {
	Store   string `json:"store,omitempty"`
	Durable string `json:"durable,omitempty"`
	What    string `json:"what"`
	A       string `json:"a"`
	B       string `json:"b"`
}

// errEnough ends a comparison that has found as much as is wanted.
var errEnough = errors.New("statefile: enough differences")

// Diff compares the states in two files that [Verify] has read, by the names of
// stores and durables, and yields up to limit differences. Where and when the
// states were saved makes none. more is true if there are further ones.
func Diff(a, b io.Reader, limit int, yield func(Difference) error) (more bool, err error) {
	x, err := newSide(a)
	if err != nil {
		return false, err
	}
	y, err := newSide(b)
	if err != nil {
		return false, err
	}
	found := 0
	c := comparison{a: x, b: y, yield: func(d Difference) error {
		if found++; found > limit {
			return errEnough
		}
		return yield(d)
	}}
	err = c.all()
	return errors.Is(err, errEnough), ignore(err, errEnough)
}

func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}

// side is one of two states: all but its batches, which are read as they are
// compared.
type side struct {
	reader   *Reader
	records  Records
	stores   []Store
	durables []Durable
	wants    []wanting
	sessions map[uint64]Session
	order    []uint64 // of sessions
	batch    *Batch   // the next one; nil after the last
}

// newSide reads a file up to its batches.
func newSide(in io.Reader) (*side, error) {
	r, err := NewReader(in)
	if err != nil {
		return nil, err
	}
	s := &side{reader: r, sessions: map[uint64]Session{}}
	return s, s.next()
}

// next reads on to the next batch.
func (s *side) next() error {
	for {
		r, err := s.records.Next()
		if errors.Is(err, io.EOF) {
			b, err := s.reader.Next()
			if errors.Is(err, io.EOF) {
				s.batch = nil
				return nil
			} else if err != nil {
				return err
			}
			s.records.Start(b.Section, b.Count, b.Content)
			continue
		} else if err != nil {
			return err
		}
		switch r := r.(type) {
		case *Store:
			s.stores = append(s.stores, *r)
		case *Durable:
			d := *r
			d.Marks = bytes.Clone(r.Marks)
			s.durables = append(s.durables, d)
			s.wants = append(s.wants, wanting{name: d.Name, store: d.Store})
		case *Pending:
			for _, run := range r.Runs {
				s.wants[r.Durable].pending.AddRange(run.First, run.N)
			}
		case *Counts:
			for _, e := range r.Ended {
				s.wants[r.Durable].counts.Append(e.ID, e.Times)
			}
		case *Session:
			x := *r
			x.Outcomes = slices.Clone(r.Outcomes)
			s.sessions[x.ID] = x
			s.order = append(s.order, x.ID)
		case *Batch:
			s.batch = r
			return nil
		}
	}
}

// comparison compares two sides.
type comparison struct {
	a, b  *side
	yield func(Difference) error
}

func (c *comparison) all() error {
	if a, b := c.a.reader.Manifest().LastSession, c.b.reader.Manifest().LastSession; a != b {
		if err := c.differ("", "", "last session", fmt.Sprint(a), fmt.Sprint(b)); err != nil {
			return err
		}
	}
	if err := c.stores(); err != nil {
		return err
	}
	if err := c.durables(); err != nil {
		return err
	}
	if err := c.sessions(); err != nil {
		return err
	}
	return c.batches()
}

func (c *comparison) differ(store, durable, what, a, b string) error {
	if a == b {
		return nil
	}
	return c.yield(Difference{Store: store, Durable: durable, What: what, A: a, B: b})
}

// merge walks two ascending lists and calls both with what has the same key; nil
// is what one of them does not have.
func merge[T any](a, b []T, key func(T) string, both func(a, b *T) error) error {
	for len(a) > 0 || len(b) > 0 {
		var x, y *T
		if len(b) == 0 || len(a) > 0 && key(a[0]) <= key(b[0]) {
			x = &a[0]
		}
		if len(a) == 0 || len(b) > 0 && key(b[0]) <= key(a[0]) {
			y = &b[0]
		}
		if x != nil {
			a = a[1:]
		}
		if y != nil {
			b = b[1:]
		}
		if err := both(x, y); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) stores() error {
	return merge(c.a.stores, c.b.stores, func(s Store) string { return s.Name }, func(a, b *Store) error {
		if a == nil || b == nil {
			return c.differ(either(a, b).Name, "", "store", present(a), present(b))
		}
		return c.differ(a.Name, "", "last id", a.last().String(), b.last().String())
	})
}

func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func present[T any](x *T) string {
	if x == nil {
		return ""
	}
	return "there"
}

// named is a durable under its names.
type named struct {
	store string
	*Durable
	*wanting
}

func (s *side) named() (out []named) {
	for i := range s.durables {
		out = append(out, named{s.stores[s.durables[i].Store].Name, &s.durables[i], &s.wants[i]})
	}
	return out
}

func (c *comparison) durables() error {
	key := func(n named) string { return n.store + "\x00" + n.Name }
	return merge(c.a.named(), c.b.named(), key, func(a, b *named) error {
		n := either(a, b)
		if a == nil || b == nil {
			return c.differ(n.store, n.Name, "durable", present(a), present(b))
		}
		for _, f := range []struct {
			what string
			a, b any
		}{
			{"kind", a.Kind, b.Kind}, {"matcher", a.Matcher, b.Matcher}, {"prefetch", a.Prefetch, b.Prefetch},
			{"dynamic", a.Dynamic, b.Dynamic}, {"template", a.Template, b.Template}, {"watermark", a.Watermark, b.Watermark},
			{"matched", a.Matched, b.Matched}, {"acked", a.Acked, b.Acked}, {"attachments", a.Attachments, b.Attachments},
			{"attachment", a.Attachment, b.Attachment}, {"marks", fmt.Sprintf("%x", a.Marks), fmt.Sprintf("%x", b.Marks)},
			{"pending", onlyPending(a.wanting, b.wanting), onlyPending(b.wanting, a.wanting)},
			{"delivery counts", onlyCounts(a.wanting, b.wanting), onlyCounts(b.wanting, a.wanting)},
		} {
			if err := c.differ(n.store, n.Name, f.what, fmt.Sprint(f.a), fmt.Sprint(f.b)); err != nil {
				return err
			}
		}
		return nil
	})
}

// shown is how many runs and counts a difference shows.
const shown = 5

// onlyPending describes what is pending in a and not in b.
func onlyPending(a, b *wanting) string {
	var runs []string
	total := uint64(0)
	a.pending.Runs(0, ^message.ID(0), func(first message.ID, n uint64) bool {
		end := first + message.ID(n)
		for at := first; at < end; {
			next, length, ok := b.pending.NextRun(at)
			if !ok || next > end {
				next, length = end, 0
			}
			if next > at {
				total += uint64(next - at)
				if len(runs) < shown {
					runs = append(runs, fmt.Sprintf("%v-%v", at, next-1))
				}
			}
			at = next + message.ID(length)
		}
		return true
	})
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d more: %s", total, strings.Join(runs, " "))
}

// onlyCounts describes the counts of a that are others in b.
func onlyCounts(a, b *wanting) string {
	var list []string
	total := 0
	a.counts.Each(func(id message.ID, ended uint32) {
		if b.counts.Get(id) == ended {
			return
		}
		if total++; total <= shown {
			list = append(list, fmt.Sprintf("%v=%d", id, ended))
		}
	})
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d other: %s", total, strings.Join(list, " "))
}

func (c *comparison) sessions() error {
	ids := append(slices.Clone(c.a.order), c.b.order...)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		a, inA := c.a.sessions[id]
		b, inB := c.b.sessions[id]
		if inA && inB && c.a.stores[a.Store].Name == c.b.stores[b.Store].Name {
			b.Store = a.Store // their positions may differ
		}
		if reflect.DeepEqual(a, b) {
			continue
		}
		if err := c.differ("", "", fmt.Sprintf("session %d", id), c.a.session(a, inA), c.b.session(b, inB)); err != nil {
			return err
		}
	}
	return nil
}

// session describes a session; outcomes by a checksum.
func (s *side) session(x Session, there bool) string {
	if !there {
		return ""
	}
	return fmt.Sprintf("sequence %d, attempt %d, closed %v, idle %dns, outcomes %x", x.Last, x.Attempt, x.Closed, x.Idle, outcomesSum(x.Outcomes))
}

// batches compares batches as they come, one of each file in memory.
func (c *comparison) batches() error {
	for c.a.batch != nil || c.b.batch != nil {
		order := c.order()
		var a, b *Batch
		if order <= 0 {
			a = c.a.batch
		}
		if order >= 0 {
			b = c.b.batch
		}
		s := c.b
		if a != nil {
			s = c.a
		}
		x := either(a, b)
		if err := c.differ(s.stores[x.Store].Name, "", fmt.Sprintf("batch %v", x.First), describe(a), describe(b)); err != nil {
			return err
		}
		if a != nil {
			if err := c.a.next(); err != nil {
				return err
			}
		}
		if b != nil {
			if err := c.b.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// order says which side's next batch comes first: below 0 that of a.
func (c *comparison) order() int {
	a, b := c.a.batch, c.b.batch
	switch {
	case b == nil:
		return -1
	case a == nil:
		return 1
	}
	if o := strings.Compare(c.a.stores[a.Store].Name, c.b.stores[b.Store].Name); o != 0 {
		return o
	}
	return cmp.Compare(a.First, b.First)
}

// describe says what is compared of a batch.
func describe(b *Batch) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("%d messages, %d bytes, sum %08x, stamp %d", b.Count, b.Len, crc32.Checksum(b.Bytes, castagnoli), b.Stamp)
}

// outcomesSum tells outcomes apart.
func outcomesSum(list []Outcome) uint32 {
	return crc32.Checksum(fmt.Append(nil, list), castagnoli)
}
