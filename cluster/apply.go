package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// sealBytes is how much is sealed before it is given to Raft.
const sealBytes = maxMessage

// seal puts queued proposals, and what the machine wants, into entries of up to
// mergeTarget bytes, and gives them to Raft together: it makes messages for
// every call, whatever the number of entries.
func (r *Replica[R]) seal(now Now) {
	if !r.led {
		return
	}
	for {
		if len(r.held.entries) == 0 {
			for r.held.bytes < sealBytes && r.sealNext(now) {
			}
		}
		if len(r.held.entries) == 0 || !r.give() {
			return
		}
	}
}

// held is what is sealed and not yet with Raft.
type held struct {
	entries []sealed
	data    [][]byte // of entries, in buf or in the memory of a proposal
	bytes   int
	buf     []byte
	message pb.Message // scratch, as is offered
	offered []*pb.Entry
}

// give offers Raft what is held. It refuses while leadership is being transferred
// and at its own bound: then the entries wait, since what the machine put into
// them will not be given twice.
//
// Of what is offered in one call Raft sends one message to each follower at once,
// and the rest when that is answered. So no call has more than a message takes.
func (r *Replica[R]) give() bool {
	h := &r.held
	for len(h.entries) > 0 {
		n, size := 0, 0
		for n < len(h.data) && (n == 0 || size+entryOverhead+len(h.data[n]) <= maxMessage) {
			size += entryOverhead + len(h.data[n])
			if n == len(h.offered) {
				h.offered = append(h.offered, &pb.Entry{})
			}
			h.offered[n].Data = h.data[n]
			n++
		}
		h.message.Type, h.message.From, h.message.Entries = pb.MsgProp.Enum(), &r.opts.ID, h.offered[:n]
		err := r.rn.Step(&h.message)
		// Raft has copied the data (v3.7): nothing must hold on to a large entry.
		for _, e := range h.offered[:n] {
			e.Data = nil
		}
		if err != nil {
			return false
		}
		for _, s := range h.entries[:n] {
			if s.release != nil {
				s.release()
				s.release = nil
			}
			r.sealed.push(s)
			r.uncommitted += s.bytes
			h.bytes -= s.bytes
		}
		h.entries, h.data = slices.Delete(h.entries, 0, n), slices.Delete(h.data, 0, n)
	}
	h.buf = h.buf[:0]
	if cap(h.buf) > 2*sealBytes {
		h.buf = nil
	}
	return true
}

// entryOverhead is at least what Raft counts for an entry besides its data.
const entryOverhead = 32

// sealNext makes the next entry, if anything waits for one.
func (r *Replica[R]) sealNext(now Now) bool {
	n, size := r.take()
	r.commands = r.leading.Commands(r.commands[:0], n > 0, now)
	if n == 0 && len(r.commands) == 0 {
		return false
	}
	proposals := r.queue.all()[r.inEntries : r.inEntries+n]
	r.inEntries += n
	if n == 1 && len(r.commands) == 0 && len(proposals[0].Memory) >= size {
		r.sealInPlace(&proposals[0], size, now)
		return true
	}
	for _, c := range r.commands {
		size += commandHeader + len(c)
	}
	h := &r.held
	if cap(h.buf)-len(h.buf) < size { // what is in it stays where it is
		h.buf = make([]byte, 0, max(size, min(2*cap(h.buf), sealBytes+2*mergeTarget)))
	}
	start := len(h.buf)
	data := beginEntry(h.buf, r.term, r.nextStamp(now))
	for _, c := range r.commands {
		data = appendCommand(data, c, nil)
	}
	for i := range proposals {
		data = appendCommand(data, proposals[i].Command, proposals[i].Body)
		proposals[i].giveBack()
	}
	h.buf, data = data, data[start:len(data):len(data)]
	sealEntry(data) // while the bytes are hot
	h.hold(data, sealed{proposals: n, internal: len(r.commands), bytes: len(data)})
	return true
}

// EntryFront is what an entry of one command has before it.
const EntryFront = entryHeaderSize + commandHeader

// sealInPlace makes an entry of size bytes in the memory that ends with the
// body of p. Nobody but Raft, which copies it, gets to see that memory; it is
// released when Raft has.
func (r *Replica[R]) sealInPlace(p *Proposal[R], size int, now Now) {
	data := p.Memory[len(p.Memory)-size:]
	head := beginEntry(data[:0], r.term, r.nextStamp(now))
	head = binary.LittleEndian.AppendUint32(head, uint32(p.size()))
	copy(data[len(head):], p.Command)
	sealEntry(data)
	r.held.hold(data, sealed{proposals: 1, bytes: size, release: p.Release})
	p.Release = nil
	p.giveBack()
}

func (h *held) hold(data []byte, s sealed) {
	h.entries, h.data = append(h.entries, s), append(h.data, data)
	h.bytes += len(data)
}

// take says how many proposals go into the next entry, and its size so far.
func (r *Replica[R]) take() (n, size int) {
	size = entryHeaderSize
	if r.uncommitted+r.held.bytes >= publishUncommitted {
		return 0, size
	}
	for _, p := range r.queue.all()[r.inEntries:] {
		add := commandHeader + p.size()
		if n > 0 && size+add > mergeTarget {
			break
		}
		n, size = n+1, size+add
	}
	return n, size
}

// nextStamp gives the cluster time T of the next entry. It never falls; at
// take-over it may jump to the wall clock; afterwards it advances by at most
// twice this leader's monotonic time, so a clock that jumps expires nothing.
func (r *Replica[R]) nextStamp(now Now) int64 {
	next := now.Wall
	if r.sealMono != 0 {
		next = min(next, r.stamp+2*(now.Mono-r.sealMono))
	}
	r.stamp = max(r.stamp, next)
	r.sealMono = max(now.Mono, 1)
	return r.stamp
}

// apply applies committed entries and answers those who wait for them.
func (r *Replica[R]) apply(now Now, entries []*pb.Entry) error {
	for _, e := range entries {
		if err := r.applyEntry(e); err != nil {
			return fmt.Errorf("cluster: group %d: entry %d of term %d: %w", r.opts.Group, e.GetIndex(), e.GetTerm(), err)
		}
		r.applied, r.appliedT = e.GetIndex(), e.GetTerm()
		r.edges.applied(e.GetIndex(), len(e.GetData()))
		if r.role == raft.StateLeader && !r.led && e.GetTerm() == r.term {
			r.led, r.sealedTerm, r.stamp = true, r.term, max(r.stamp, r.edges.stamp)
			r.leading.Lead(r.term, now)
		}
	}
	return nil
}

func (r *Replica[R]) applyEntry(e *pb.Entry) error {
	entry := Entry{Index: e.GetIndex(), Term: e.GetTerm(), Stamp: r.appliedStamp()}
	r.results = r.results[:0]
	var err error
	switch {
	case e.GetType() == pb.EntryConfChange || e.GetType() == pb.EntryConfChangeV2:
		if err := r.applyConfChange(e); err != nil {
			return err
		}
	case len(e.GetData()) > 0:
		if err := r.open.open(e.GetData()); err != nil {
			return err
		}
		// A command decided in another term than the entry's is void: it acts
		// for a leader that is no more.
		if r.open.decided == e.GetTerm() {
			entry.Stamp = max(entry.Stamp, r.open.stamp)
			entry.Commands, entry.Offsets = r.open.commands, r.open.offsets
		}
	}
	r.results, err = r.machine.Apply(entry, r.results)
	if err != nil {
		return err
	}
	if len(r.results) != len(entry.Commands) {
		return fmt.Errorf("%d results for %d commands", len(r.results), len(entry.Commands))
	}
	r.edges.stamp = entry.Stamp
	if len(entry.Commands) > 0 {
		r.answer(e.GetTerm())
	}
	clear(r.open.commands) // nothing must hold on to a large entry
	return nil
}

// appliedStamp is T of the last entry applied.
func (r *Replica[R]) appliedStamp() int64 { return r.edges.stamp }

// answer gives the results to the oldest sealed proposals. Entries of this
// leader's term were all sealed here and come in order.
func (r *Replica[R]) answer(term uint64) {
	if r.role != raft.StateLeader || r.sealed.len() == 0 || term != r.sealedTerm || term != r.term {
		return
	}
	s := r.sealed.pop()
	r.uncommitted -= s.bytes
	for i := range s.proposals {
		p := r.queue.pop()
		r.inEntries--
		if p.Done != nil {
			p.Done(r.results[s.internal+i], nil)
		}
	}
}

func (r *Replica[R]) applyConfChange(e *pb.Entry) error {
	var cc pb.ConfChangeI
	if e.GetType() == pb.EntryConfChange {
		v1 := &pb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), v1); err != nil {
			return fmt.Errorf("configuration change: %w", err)
		}
		cc = v1
	} else {
		v2 := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), v2); err != nil {
			return fmt.Errorf("configuration change: %w", err)
		}
		cc = v2
	}
	r.confState = r.rn.ApplyConfChange(cc)
	return nil
}

// corePage holds what the replica itself must know of its applied state. A
// machine's keys must not begin with this byte.
var corePage = []byte{0}

// CorePage reports whether a page of a log is the replica's own: not one of the
// machine's.
func CorePage(key []byte) bool { return len(key) > 0 && key[0] == corePage[0] }

func (r *Replica[R]) corePage() Page {
	v := binary.LittleEndian.AppendUint64(make([]byte, 0, 16), r.appliedT)
	return Page{corePage, binary.LittleEndian.AppendUint64(v, uint64(r.edges.stamp))}
}

func (r *Replica[R]) loadCore(v []byte) error {
	if len(v) != 16 {
		return fmt.Errorf("cluster: the replica's page has %d bytes, want 16", len(v))
	}
	r.appliedT = binary.LittleEndian.Uint64(v)
	r.stamp = int64(binary.LittleEndian.Uint64(v[8:]))
	return nil
}

// Settle lets the machine hand out what is owed, after a round of inputs. The
// shell calls it when nothing is left to advance.
func (r *Replica[R]) Settle(now Now) {
	if r.led {
		r.leading.Settled(r.Quorum(now), now)
	}
}

// Quorum reports whether this replica leads and heard a majority of the voters
// within the election timeout.
func (r *Replica[R]) Quorum(now Now) bool {
	if r.role != raft.StateLeader {
		return false
	}
	n := 0
	for _, id := range r.confState.GetVoters() {
		if id == r.opts.ID || r.hears(id, now) {
			n++
		}
	}
	return n > len(r.confState.GetVoters())/2
}

// hears reports whether this leader heard a replica within the election timeout,
// and it has not gone since.
func (r *Replica[R]) hears(id uint64, now Now) bool {
	return !r.gone[id] && r.heard[id] != 0 && now.Mono-r.heard[id] < r.opts.electionTimeout()
}

// Deadline is when, in Now.Mono, Advance should run although nothing else
// happens; 0 is never.
func (r *Replica[R]) Deadline() int64 {
	d := earliest(earliest(r.election.due, r.news.due), r.rest.until)
	// While Raft refuses an entry the machine is not asked for more; the next
	// tick tries again.
	if r.led && len(r.held.entries) == 0 {
		d = earliest(d, r.leading.Deadline())
	}
	return d
}

func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// maybeCheckpoint writes the state when enough has changed.
func (r *Replica[R]) maybeCheckpoint(now Now) error {
	if r.installs || r.applied == r.edges.checkpoint {
		r.edges.checkpointMono = now.Mono
		return nil
	}
	if r.edges.since < checkpointBytes && now.Mono-r.edges.checkpointMono < int64(checkpointEvery) {
		return nil
	}
	return r.Checkpoint(now)
}

// Checkpoint writes what changed of the state, moves the first index and lets
// go of dead entries, in one atomic write.
func (r *Replica[R]) Checkpoint(now Now) error {
	c := Checkpoint{Applied: r.applied, ConfState: r.confState, First: r.firstIndex(now), Pages: []Page{r.corePage()}}
	r.machine.Changed(func(key, value []byte) { c.Pages = append(c.Pages, Page{bytes.Clone(key), bytes.Clone(value)}) })
	c.Dead = r.edges.dead(c.First, r.machine.Dead, r.machine.Live)
	if err := r.log.Checkpoint(c); err != nil {
		return fmt.Errorf("cluster: group %d: checkpoint at %d: %w", r.opts.Group, r.applied, err)
	}
	r.edges.written(c, now.Mono)
	return nil
}

// CheckpointNow makes what was applied the state of the log's last checkpoint. The
// error is [ErrInstalling], or the next Advance returns it too.
func (r *Replica[R]) CheckpointNow(now Now) error {
	switch {
	case r.installs:
		return ErrInstalling
	case r.applied == r.edges.checkpoint:
		return nil
	}
	r.failed = r.Checkpoint(now)
	return r.failed
}

// firstIndex says how far the first index may rise: no voter that is there and
// not hopelessly behind should need a snapshot.
func (r *Replica[R]) firstIndex(now Now) uint64 {
	limit := r.applied
	if r.role == raft.StateLeader {
		floor := r.edges.behind(r.edges.keep.Leader)
		r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr trackerProgress) {
			silent := id != r.opts.ID && now.Mono-max(r.heard[id], r.since) > int64(r.edges.keep.Unheard)
			at := pr.Match
			if at == 0 {
				at = floor // it has not said yet where it is
			}
			if !silent && at >= floor {
				limit = min(limit, at)
			}
		})
	} else {
		limit = min(limit, r.edges.behind(r.edges.keep.Follower))
	}
	return max(r.edges.first, limit+1)
}

// capture makes a checkpoint and pins it, to be streamed to a replica that is
// too far behind.
func (r *Replica[R]) capture(m *pb.Message) (SnapshotSend, error) {
	// Raft may have asked for it some entries ago; a newer one serves as well.
	meta := m.GetSnapshot().GetMetadata()
	meta.Index, meta.Term, meta.ConfState = new(r.applied), new(r.appliedT), r.confState
	if err := r.CheckpointNow(r.now); err != nil {
		return SnapshotSend{}, err
	}
	c, err := r.log.Capture()
	if err != nil {
		return SnapshotSend{}, fmt.Errorf("cluster: group %d: capture at %d: %w", r.opts.Group, r.applied, err)
	}
	s := SnapshotSend{Message: m, Capture: c}
	r.machine.Live(Range{0, r.applied + 1}, func(index uint64) { s.Live = extend(s.Live, index) })
	return s, nil
}
