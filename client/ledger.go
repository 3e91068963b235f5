package client

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

const (
	// rangesPerFrame bounds a settle frame to about 64 KiB.
	rangesPerFrame = 4096
	// maxUnconfirmed bounds what is settled and not confirmed, in messages: above
	// it no more credit is granted until the server has caught up.
	maxUnconfirmed = 1 << 20
)

// idRange is a range of ids, both ends included.
type idRange struct{ first, last message.ID }

// idRanges is a set of ids. It is cheap to add to; normal puts it in order.
type idRanges []idRange

// add adds one id. Ids that come in order extend a range.
func (r *idRanges) add(id message.ID) {
	if n := len(*r); n > 0 && (*r)[n-1].last+1 == id {
		(*r)[n-1].last = id
		return
	}
	*r = append(*r, idRange{id, id})
}

// normal sorts the ranges and joins those that touch.
func (r idRanges) normal() idRanges {
	if len(r) < 2 {
		return r
	}
	slices.SortFunc(r, func(a, b idRange) int { return cmp.Compare(a.first, b.first) })
	out := r[:1]
	for _, next := range r[1:] {
		last := &out[len(out)-1]
		if next.first <= last.last+1 {
			last.last = max(last.last, next.last)
			continue
		}
		out = append(out, next)
	}
	return out
}

// has reports whether a normal set holds id.
func (r idRanges) has(id message.ID) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].last >= id })
	return i < len(r) && r[i].first <= id
}

// remove removes id from a normal set.
func (r *idRanges) remove(id message.ID) {
	i := sort.Search(len(*r), func(i int) bool { return (*r)[i].last >= id })
	if i == len(*r) || (*r)[i].first > id {
		return
	}
	var rest idRanges
	if one := (*r)[i]; one.first < id {
		rest = append(rest, idRange{one.first, id - 1})
	}
	if one := (*r)[i]; one.last > id {
		rest = append(rest, idRange{id + 1, one.last})
	}
	*r = slices.Replace(*r, i, i+1, rest...)
}

func (r idRanges) messages() int {
	n := 0
	for _, one := range r {
		n += int(one.last-one.first) + 1
	}
	return n
}

// nack gives a range of deliveries back.
type nack struct {
	idRange
	delay time.Duration
}

// syncAck is an acknowledgement that somebody waits for.
type syncAck struct {
	id   message.ID
	done chan struct{}
	err  error // read after done is closed
	sent bool  // at least once
}

// flight is what was sent under a token and is not confirmed.
type flight struct {
	token    uint64
	acks     idRanges
	messages int
}

// ledger keeps what the application has settled until the server has confirmed
// it, and the credit to be granted for it. It does no I/O and has no lock: the
// subscription's guards it.
//
// Every acknowledgement is in exactly one of: pending, one flight, one sync. A
// new stream puts all flights back to pending, since settling twice does no
// harm. Nor does an id that is in several of them: an acknowledgement is of one
// copy. Nacks are not kept: the end of a stream gives deliveries back anyway.
type ledger struct {
	pending  idRanges
	nacks    []nack
	unsent   int // settled messages since the last flush
	messages uint64
	bytes    uint64 // of credit, for the next flush

	flights     []flight // by token
	unconfirmed int      // messages in them
	syncs       []*syncAck
	waiting     map[uint64]*syncAck // by token
	token       uint64              // the last one used
}

func (g *ledger) ack(id message.ID) {
	g.pending.add(id)
	g.unsent++
}

func (g *ledger) nack(id message.ID, delay time.Duration) {
	g.unsent++
	if n := len(g.nacks); n > 0 && g.nacks[n-1].last+1 == id && g.nacks[n-1].delay == delay {
		g.nacks[n-1].last = id
		return
	}
	g.nacks = append(g.nacks, nack{idRange{id, id}, delay})
}

func (g *ledger) sync(id message.ID) *syncAck {
	a := &syncAck{id: id, done: make(chan struct{})}
	g.syncs = append(g.syncs, a)
	return a
}

// again acknowledges copies that have come, in order, of what was acknowledged
// before. The server may have judged that, or will have when it reads it, at a
// time when another subscriber held the message; but the copy is ours. Who waits
// for one of them hears what becomes of the copy: its first answer, still to
// come, does not count any more.
func (g *ledger) again(copies idRanges) {
	g.recall(copies.has)
	var waited idRanges
	for _, a := range g.syncs {
		waited.add(a.id)
	}
	waited = waited.normal()
	for _, r := range copies {
		for id := r.first; id <= r.last; id++ {
			if !waited.has(id) {
				g.ack(id)
			}
		}
	}
}

// recall has the acknowledgements of some ids that somebody waits for sent once
// more, those that were sent first before the others.
func (g *ledger) recall(which func(message.ID) bool) {
	var syncs []*syncAck
	for _, token := range slices.Sorted(maps.Keys(g.waiting)) {
		if a := g.waiting[token]; which(a.id) {
			syncs = append(syncs, a)
			delete(g.waiting, token)
		}
	}
	g.syncs = append(syncs, g.syncs...)
}

// idle reports whether everything is confirmed.
func (g *ledger) idle() bool {
	return len(g.pending) == 0 && len(g.nacks) == 0 && len(g.syncs) == 0 && len(g.flights) == 0 && len(g.waiting) == 0
}

// credited adds to the credit of the next flush.
func (g *ledger) credited(messages, bytes uint64) {
	g.messages += messages
	g.bytes += bytes
}

// flush returns the frames to send now, settlements first, and the credit in
// them. Without grant, credit is kept.
func (g *ledger) flush(grant bool) (frames []*perdurepb.SubscribeRequest, messages, bytes uint64) {
	acks := g.pending.normal()
	g.pending = nil
	for len(acks) > 0 || len(g.nacks) > 0 {
		n := min(len(acks), rangesPerFrame)
		m := min(len(g.nacks), rangesPerFrame)
		g.token++
		frames = append(frames, settleFrame(g.token, acks[:n], g.nacks[:m]))
		f := flight{token: g.token, acks: acks[:n:n], messages: acks[:n].messages()}
		g.flights = append(g.flights, f)
		g.unconfirmed += f.messages
		acks, g.nacks = acks[n:], g.nacks[m:]
	}
	g.nacks = nil
	for _, a := range g.syncs {
		g.token++
		a.sent = true
		frame := settleFrame(g.token, idRanges{{a.id, a.id}}, nil)
		frame.Settle.Now = true // somebody waits
		frames = append(frames, frame)
		if g.waiting == nil {
			g.waiting = make(map[uint64]*syncAck)
		}
		g.waiting[g.token] = a
	}
	g.syncs = nil
	g.unsent = 0
	if grant && g.unconfirmed <= maxUnconfirmed && (g.messages > 0 || g.bytes > 0) {
		messages, bytes = g.messages, g.bytes
		g.messages, g.bytes = 0, 0
		frames = append(frames, &perdurepb.SubscribeRequest{Credit: &perdurepb.Credit{Messages: messages, Bytes: bytes}})
	}
	return frames, messages, bytes
}

func settleFrame(token uint64, acks idRanges, nacks []nack) *perdurepb.SubscribeRequest {
	s := &perdurepb.Settle{Token: token}
	if len(acks) > 0 {
		s.Acks = make([]uint64, 0, 2*len(acks))
	}
	for _, r := range acks {
		s.Acks = append(s.Acks, uint64(r.first), uint64(r.last))
	}
	for _, n := range nacks {
		s.Nacks = append(s.Nacks, &perdurepb.Nack{
			First: uint64(n.first), Last: uint64(n.last), DelayMs: uint64((n.delay + time.Millisecond - 1) / time.Millisecond),
		})
	}
	return &perdurepb.SubscribeRequest{Settle: s}
}

// settled takes the server's answer to a token.
func (g *ledger) settled(token uint64, err error) {
	if a := g.waiting[token]; a != nil {
		delete(g.waiting, token)
		a.err = err
		close(a.done)
		return
	}
	i := slices.IndexFunc(g.flights, func(f flight) bool { return f.token == token })
	if i < 0 {
		return
	}
	g.unconfirmed -= g.flights[i].messages
	g.flights = slices.Delete(g.flights, i, i+1)
}

// confirmed reports whether every token up to the given one was answered.
func (g *ledger) confirmed(token uint64) bool {
	if len(g.flights) > 0 && g.flights[0].token <= token {
		return false
	}
	for t := range g.waiting {
		if t <= token {
			return false
		}
	}
	return true
}

// restart prepares for a new stream and returns what will be acknowledged on it
// before anything else. Credit starts anew there.
func (g *ledger) restart() idRanges {
	for _, f := range g.flights {
		g.pending = append(g.pending, f.acks...)
	}
	g.pending = g.pending.normal()
	g.recall(func(message.ID) bool { return true })
	g.flights, g.unconfirmed, g.nacks = nil, 0, nil
	g.messages, g.bytes = 0, 0
	again := slices.Clone(g.pending)
	for _, a := range g.syncs {
		again = append(again, idRange{a.id, a.id})
	}
	return again.normal()
}

// fail ends what somebody waits for.
func (g *ledger) fail(err error) {
	for _, a := range g.syncs {
		a.err = err
		if a.sent {
			a.err = unknown(err)
		}
		close(a.done)
	}
	for _, a := range g.waiting {
		a.err = unknown(err)
		close(a.done)
	}
	*g = ledger{token: g.token}
}

// echoes are the ids that were acknowledged for an earlier stream. A copy that
// the present stream delivers before it has applied them is not handed out, but
// acknowledged: another subscriber may have held the message in between, so that
// the first acknowledgement had no effect.
type echoes struct {
	ranges idRanges // normal
	single map[message.ID]struct{}
	token  uint64 // when all up to it are answered, what comes is no copy but a new delivery
	open   bool   // some are not sent yet
}

func (e *echoes) empty() bool { return len(e.ranges) == 0 && len(e.single) == 0 }

func (e *echoes) has(id message.ID) bool {
	if _, ok := e.single[id]; ok {
		return true
	}
	return e.ranges.has(id)
}

func (e *echoes) add(id message.ID) {
	if e.single == nil {
		e.single = make(map[message.ID]struct{})
	}
	e.single[id] = struct{}{}
	e.open = true
}

// remove has copies of id handed out again.
func (e *echoes) remove(id message.ID) {
	delete(e.single, id)
	e.ranges.remove(id)
}

// flushed notes that all were sent, the last under token.
func (e *echoes) flushed(token uint64) {
	if e.open {
		e.token, e.open = token, false
	}
}
