package clustertest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// Driver does random but legal steps to a log and to a model of it. Equal seeds
// give equal steps, whatever the log is.
type Driver struct {
	Model *Model
	rng   *rand.Rand
	count int
	// Large is the size that one entry in sixteen has at most; the others are
	// small.
	Large int
	// Sealed makes the data of normal entries what a leader seals, and says so.
	Sealed bool
}

// NewDriver begins with the model of a new copy.
func NewDriver(seed uint64, voters []uint64) *Driver {
	return &Driver{Model: NewModel(voters), rng: rand.New(rand.NewPCG(seed, 1)), Large: 9000}
}

// Did is what a step was.
type Did struct {
	What string // for messages
	// Appended says that it was an Append, so that done runs.
	Appended bool
	// Durable says that once done has run, it and all before it survives. An
	// Append of no more than a commit promises nothing.
	Durable bool
}

// Step does one random step. done runs if the step is an Append.
func (d *Driver) Step(l cluster.Log, done func()) (Did, error) {
	d.count++
	lasting := func(what string, err error) (Did, error) { return Did{what, true, true}, err }
	switch d.rng.IntN(16) {
	case 0, 1, 2, 3, 4, 5:
		return lasting(d.append(l, done, d.Model.Last+1))
	case 6, 7:
		if kept := max(d.Model.Applied, d.Model.Commit); d.Model.Last > kept {
			return lasting(d.append(l, done, kept+1+d.rng.Uint64N(d.Model.Last-kept)))
		}
		return lasting(d.append(l, done, d.Model.Last+1))
	case 8:
		return lasting(d.vote(l, done))
	case 9, 10:
		what, err := d.commit(l, done)
		return Did{What: what, Appended: true}, err
	case 11:
		return lasting(d.install(l, done))
	case 12:
		what, err := d.abort(l)
		return Did{What: what}, err
	default:
		what, err := d.checkpoint(l)
		return Did{What: what}, err
	}
}

func (d *Driver) text(size int) string {
	s := fmt.Sprintf("%d.", d.count)
	return strings.Repeat(s, size/len(s)+1)[:size]
}

// data returns what a normal entry of about this size has.
func (d *Driver) data(term uint64, size int) []byte {
	if !d.Sealed {
		return []byte(d.text(size))
	}
	return cluster.SealEntry(term, int64(d.count), []byte(d.text(size)))
}

func (d *Driver) append(l cluster.Log, done func(), at uint64) (string, error) {
	w := cluster.Write{Summed: d.Sealed}
	term := max(d.Model.term(at-1), d.Model.Term, 1)
	if at <= d.Model.Last {
		term = max(term, d.Model.term(d.Model.Last)) + 1
	}
	if term != d.Model.Term || d.rng.IntN(3) == 0 {
		vote := d.Model.Vote
		if term != d.Model.Term {
			vote = d.rng.Uint64N(4)
		}
		w.HardState = &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(d.Model.Commit)}
	}
	for range 1 + d.rng.IntN(4) {
		size := d.rng.IntN(200)
		if d.rng.IntN(16) == 0 {
			size = d.rng.IntN(d.Large + 1)
		}
		e := &pb.Entry{Index: new(at), Term: new(term), Type: pb.EntryType_EntryNormal.Enum()}
		if d.rng.IntN(8) == 0 {
			e.Type = pb.EntryType_EntryConfChangeV2.Enum()
		}
		switch {
		case size == 0:
		case e.GetType() == pb.EntryNormal:
			e.Data = d.data(term, size)
		default:
			e.Data = []byte(d.text(size))
		}
		w.Entries = append(w.Entries, e)
		at++
	}
	d.Model.Append(w)
	d.write(l, w, done)
	return fmt.Sprintf("append %d..%d term %d", w.Entries[0].GetIndex(), at-1, term), nil
}

// write appends, and at random leaves the writing to Work, or to whoever comes next.
func (d *Driver) write(l cluster.Log, w cluster.Write, done func()) {
	how := d.rng.IntN(8) // the same for every log
	w.Here = how < 4
	if l.Append(w, func(bool) { done() }) && how > 0 {
		l.Work()
	}
}

func (d *Driver) vote(l cluster.Log, done func()) (string, error) {
	w := cluster.Write{HardState: &pb.HardState{Term: new(d.Model.Term + 1), Vote: new(d.rng.Uint64N(4)), Commit: new(d.Model.Commit)}}
	d.Model.Append(w)
	d.write(l, w, done)
	return fmt.Sprint("vote ", w.HardState), nil
}

func (d *Driver) commit(l cluster.Log, done func()) (string, error) {
	if d.Model.Last <= d.Model.Commit {
		d.write(l, cluster.Write{}, done)
		return "nothing", nil
	}
	commit := d.Model.Commit + 1 + d.rng.Uint64N(d.Model.Last-d.Model.Commit)
	w := cluster.Write{HardState: &pb.HardState{Term: new(d.Model.Term), Vote: new(d.Model.Vote), Commit: new(commit)}}
	d.Model.Append(w)
	d.write(l, w, done)
	return fmt.Sprint("commit ", commit), nil
}

// randomPages changes some pages of a small set of keys.
func (d *Driver) randomPages(remove bool) []cluster.Page {
	var pages []cluster.Page
	for _, n := range d.rng.Perm(12)[:d.rng.IntN(5)] {
		p := cluster.Page{Key: fmt.Appendf(nil, "page\x00%d", n)}
		if !remove || d.rng.IntN(3) > 0 {
			p.Value = []byte(d.text(d.rng.IntN(300)))
		}
		pages = append(pages, p)
	}
	return pages
}

func (d *Driver) checkpoint(l cluster.Log) (string, error) {
	m := d.Model
	c := cluster.Checkpoint{Applied: m.Applied + d.rng.Uint64N(m.Last-m.Applied+1), Pages: d.randomPages(true)}
	c.First = m.First + d.rng.Uint64N(c.Applied+1-m.First+1)
	if d.rng.IntN(2) == 0 {
		c.ConfState = &pb.ConfState{Voters: []uint64{1, 2, 3 + d.rng.Uint64N(5)}}
	}
	for _, i := range slices.Sorted(maps.Keys(m.Entries)) {
		if i >= c.First || d.rng.IntN(3) == 0 {
			continue
		}
		if n := len(c.Dead); n > 0 && c.Dead[n-1].Hi == i {
			c.Dead[n-1].Hi++
		} else {
			c.Dead = append(c.Dead, cluster.Range{Lo: i, Hi: i + 1})
		}
	}
	m.Checkpoint(c)
	err := l.Checkpoint(c)
	return fmt.Sprintf("checkpoint applied %d first %d dead %v pages %d", c.Applied, c.First, c.Dead, len(c.Pages)), err
}

// receive fills a receiver, and returns the model of what an install leaves.
func (d *Driver) receive(l cluster.Log) (cluster.Receiver, *Model, error) {
	m := NewModel([]uint64{1, 2, 3 + d.rng.Uint64N(5)})
	m.Applied = max(d.Model.Applied, d.Model.Commit) + 1 + d.rng.Uint64N(5)
	m.First, m.Last = m.Applied+1, m.Applied
	m.TermBefore = max(d.Model.Term, 1)
	m.Term, m.Vote, m.Commit = d.Model.Term, d.Model.Vote, m.Applied
	r, err := l.Receive(&pb.SnapshotMetadata{Index: new(m.Applied), Term: new(m.TermBefore), ConfState: &pb.ConfState{Voters: m.Voters}})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range d.randomPages(false) {
		m.Pages[string(p.Key)] = string(p.Value)
		if err := r.Page(p.Key, p.Value); err != nil {
			return nil, nil, err
		}
	}
	for i := m.Applied - min(m.Applied-1, 20); i <= m.Applied; i++ {
		if d.rng.IntN(2) == 0 {
			continue
		}
		e := ModelEntry{Data: string(d.data(1, d.rng.IntN(300)))}
		m.Entries[i] = e
		if err := r.Entry(i, []byte(e.Data)); err != nil {
			return nil, nil, err
		}
	}
	return r, m, nil
}

func (d *Driver) install(l cluster.Log, done func()) (string, error) {
	r, m, err := d.receive(l)
	if err != nil {
		return "receive", err
	}
	w := cluster.Write{Install: r, Summed: d.Sealed}
	if d.rng.IntN(2) == 0 {
		w.HardState = &pb.HardState{Term: new(max(d.Model.Term, m.TermBefore) + 1), Vote: new(uint64(0)), Commit: new(m.Applied)}
	}
	if d.rng.IntN(2) == 0 {
		w.Entries = []*pb.Entry{{Index: new(m.Applied + 1), Term: new(m.TermBefore), Type: pb.EntryType_EntryNormal.Enum(), Data: d.data(m.TermBefore, 40)}}
	}
	m.Append(w)
	d.Model = m
	d.write(l, w, done)
	return fmt.Sprintf("install %d with %d entries behind", m.Applied, len(w.Entries)), nil
}

func (d *Driver) abort(l cluster.Log) (string, error) {
	r, _, err := d.receive(l)
	if err == nil && d.rng.IntN(2) == 0 {
		// Otherwise the next one discards it.
		err = r.Abort()
	}
	return "receive and abort", err
}
