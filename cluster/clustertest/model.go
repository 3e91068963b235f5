package clustertest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// Model is what a cluster.Log should hold, in the plainest form: an entry by
// index, a page by key.
type Model struct {
	Term, Vote, Commit uint64
	Voters             []uint64
	Applied            uint64
	First, Last        uint64
	TermBefore         uint64 // of the entry at First-1
	Entries            map[uint64]ModelEntry
	Pages              map[string]string
}

// ModelEntry is one entry.
type ModelEntry struct {
	Term uint64
	Type pb.EntryType
	Data string
}

// NewModel is a new copy with these voters.
func NewModel(voters []uint64) *Model {
	return &Model{Voters: voters, First: 1, Entries: map[uint64]ModelEntry{}, Pages: map[string]string{}}
}

// Clone returns a copy that shares nothing that changes.
func (m *Model) Clone() *Model {
	c := *m
	c.Entries, c.Pages = maps.Clone(m.Entries), maps.Clone(m.Pages)
	return &c
}

// Append does what Log.Append should, but for Install.
func (m *Model) Append(w cluster.Write) {
	if h := w.HardState; !raft.IsEmptyHardState(h) {
		m.Term, m.Vote, m.Commit = h.GetTerm(), h.GetVote(), max(m.Commit, h.GetCommit())
	}
	if len(w.Entries) == 0 {
		return
	}
	for i := w.Entries[0].GetIndex(); i <= m.Last; i++ {
		delete(m.Entries, i)
	}
	for _, e := range w.Entries {
		m.Last = e.GetIndex()
		m.Entries[m.Last] = ModelEntry{Term: e.GetTerm(), Type: e.GetType(), Data: string(e.GetData())}
	}
}

// Checkpoint does what Log.Checkpoint should.
func (m *Model) Checkpoint(c cluster.Checkpoint) {
	m.TermBefore = m.term(c.First - 1)
	m.Applied, m.First = c.Applied, c.First
	if c.ConfState != nil {
		m.Voters = c.ConfState.GetVoters()
	}
	for _, p := range c.Pages {
		if p.Value == nil {
			delete(m.Pages, string(p.Key))
		} else {
			m.Pages[string(p.Key)] = string(p.Value)
		}
	}
	for _, r := range c.Dead {
		for i := r.Lo; i < r.Hi; i++ {
			delete(m.Entries, i)
		}
	}
}

func (m *Model) term(index uint64) uint64 {
	if index+1 == m.First {
		return m.TermBefore
	}
	return m.Entries[index].Term
}

// live returns the entries at or below the applied index, as ranges.
func (m *Model) live() []cluster.Range {
	var live []cluster.Range
	for _, i := range slices.Sorted(maps.Keys(m.Entries)) {
		switch n := len(live); {
		case i > m.Applied:
		case n > 0 && live[n-1].Hi == i:
			live[n-1].Hi++
		default:
			live = append(live, cluster.Range{Lo: i, Hi: i + 1})
		}
	}
	return live
}

// Compare returns how a log, as a start finds it or when all dones have run,
// differs from the model. lateCommit allows a commit index that lags: it need
// not be on disk.
func (m *Model) Compare(l cluster.Log, lateCommit bool) error {
	return errors.Join(m.compareState(l, lateCommit), m.compareEdges(l), m.compareEntries(l), m.comparePages(l))
}

func (m *Model) compareState(l cluster.Log, lateCommit bool) error {
	h, c, err := l.InitialState()
	if err != nil {
		return err
	}
	if h.GetTerm() != m.Term || h.GetVote() != m.Vote {
		return fmt.Errorf("hard state has term %d vote %d, want term %d vote %d", h.GetTerm(), h.GetVote(), m.Term, m.Vote)
	}
	if h.GetCommit() > m.Commit || !lateCommit && h.GetCommit() != m.Commit {
		return fmt.Errorf("commit is %d, want %d", h.GetCommit(), m.Commit)
	}
	if !slices.Equal(c.GetVoters(), m.Voters) {
		return fmt.Errorf("voters are %v, want %v", c.GetVoters(), m.Voters)
	}
	return nil
}

func (m *Model) compareEdges(l cluster.Log) error {
	first, err := l.FirstIndex()
	if err != nil || first != m.First {
		return fmt.Errorf("first index is %d (%v), want %d", first, err, m.First)
	}
	last, err := l.LastIndex()
	if err != nil || last != m.Last {
		return fmt.Errorf("last index is %d (%v), want %d", last, err, m.Last)
	}
	for i := m.First - 1; i <= m.Last; i++ {
		if term, err := l.Term(i); err != nil || term != m.term(i) {
			return fmt.Errorf("term of %d is %d (%v), want %d", i, term, err, m.term(i))
		}
	}
	if _, err := l.Term(m.Last + 1); !errors.Is(err, raft.ErrUnavailable) {
		return fmt.Errorf("term behind the last index: %v, want ErrUnavailable", err)
	}
	if m.First > 1 {
		if _, err := l.Term(m.First - 2); !errors.Is(err, raft.ErrCompacted) {
			return fmt.Errorf("term two before the first index: %v, want ErrCompacted", err)
		}
	}
	s, err := l.Snapshot()
	switch {
	case m.Applied == 0:
		if !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
			return fmt.Errorf("snapshot of nothing: %v", err)
		}
	case err != nil:
		return err
	case s.GetMetadata().GetIndex() != m.Applied || s.GetMetadata().GetTerm() != m.term(m.Applied):
		return fmt.Errorf("snapshot is %v, want index %d term %d", s.GetMetadata(), m.Applied, m.term(m.Applied))
	case !slices.Equal(s.GetMetadata().GetConfState().GetVoters(), m.Voters):
		return fmt.Errorf("snapshot's voters are %v, want %v", s.GetMetadata().GetConfState().GetVoters(), m.Voters)
	}
	return nil
}

func (m *Model) compareEntries(l cluster.Log) error {
	got, err := l.Entries(m.First, m.Last+1, 1<<62)
	if err != nil || uint64(len(got)) != m.Last+1-m.First {
		return fmt.Errorf("entries [%d,%d]: got %d (%v)", m.First, m.Last, len(got), err)
	}
	for n, e := range got {
		i := m.First + uint64(n)
		want := m.Entries[i]
		if e.GetIndex() != i || e.GetTerm() != want.Term || e.GetType() != want.Type || string(e.GetData()) != want.Data {
			return fmt.Errorf("entry %d is %d/%d %v %.20q, want %d/%d %v %.20q", i, e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData(), i, want.Term, want.Type, want.Data)
		}
	}
	for i := uint64(1); i <= m.Last; i++ {
		data, err := l.Command(i)
		want, ok := m.Entries[i]
		switch {
		case ok && (err != nil || string(data) != want.Data):
			return fmt.Errorf("command %d is %.20q (%v), want %.20q", i, data, err, want.Data)
		case !ok && !errors.Is(err, cluster.ErrCollected):
			return fmt.Errorf("command %d was collected: got %.20q (%v)", i, data, err)
		}
	}
	return nil
}

func (m *Model) comparePages(l cluster.Log) error {
	c := comparison{pages: m.Pages}
	applied, err := l.Pages(c.page)
	if err = errors.Join(err, c.end()); err != nil {
		return err
	}
	if applied != m.Applied {
		return fmt.Errorf("pages are of %d, want %d", applied, m.Applied)
	}
	return nil
}

// CompareCapture returns how a capture taken from a log like the model differs
// from it.
func (m *Model) CompareCapture(c cluster.Capture) error {
	if c.Applied() != m.Applied {
		return fmt.Errorf("capture is of %d, want %d", c.Applied(), m.Applied)
	}
	pages := comparison{pages: m.Pages}
	if err := errors.Join(c.Pages(pages.page), pages.end()); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	live := m.live()
	at := uint64(0)
	err := c.Entries(live, func(index uint64, data []byte) error {
		if want, ok := m.Entries[index]; !ok || index <= at || string(data) != want.Data {
			return fmt.Errorf("entry %d behind %d is %.20q, want %.20q", index, at, data, want.Data)
		}
		at = index
		return nil
	})
	if err == nil && len(live) > 0 && at != live[len(live)-1].Hi-1 {
		err = fmt.Errorf("entries end with %d, want %v", at, live)
	}
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

// comparison compares pages as they are yielded.
type comparison struct {
	pages map[string]string
	seen  int
	last  []byte
}

func (c *comparison) page(key, value []byte) error {
	if want, ok := c.pages[string(key)]; !ok || want != string(value) {
		return fmt.Errorf("page %q is %.20q, want %.20q (%v)", key, value, want, ok)
	}
	if c.seen > 0 && bytes.Compare(c.last, key) >= 0 {
		return fmt.Errorf("page %q follows %q", key, c.last)
	}
	c.last = append(c.last[:0], key...)
	c.seen++
	return nil
}

func (c *comparison) end() error {
	if c.seen != len(c.pages) {
		return fmt.Errorf("%d pages, want %d", c.seen, len(c.pages))
	}
	return nil
}
