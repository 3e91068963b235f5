package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// model is the plain truth about one store: slices and maps, nothing shared
// with the machine.
type model struct {
	next     message.ID
	limit    int                       // messages, 0 is none
	entry    map[message.ID]uint64     // of every message stored
	batch    map[message.ID]modelBatch // by every id of it
	durables map[uint64]*modelDurable  // by id
	sessions map[uint64]*modelSession  // by id

	suspended bool
	wants     func(matcher, key string) bool
}

type modelBatch struct {
	first message.ID
	count int
	entry uint64
}

type modelDurable struct {
	matcher       string // the key it wants; "" is every message
	pending       map[message.ID]bool
	ended         map[message.ID]uint32
	possible      map[message.ID]uint32
	watermark     message.ID
	handing       bool
	matched, gone int
}

type modelSession struct {
	last    uint64
	attempt uint32
	closed  bool
	said    map[uint64]Result
	bytes   map[uint64]string
}

func newModel() *model {
	return &model{
		next: 1, entry: map[message.ID]uint64{}, batch: map[message.ID]modelBatch{},
		durables: map[uint64]*modelDurable{}, sessions: map[uint64]*modelSession{},
		wants: func(matcher, key string) bool { return matcher == "" || matcher == key },
	}
}

func newModelDurable(matcher string) *modelDurable {
	return &modelDurable{matcher: matcher, pending: map[message.ID]bool{}, ended: map[message.ID]uint32{}, possible: map[message.ID]uint32{}}
}

// publish predicts the result of a publish, and remembers it.
func (o *model) publish(session uint64, attempt uint32, sequence uint64, data []byte, keys []string, entry uint64) Result {
	x := o.sessions[session]
	switch {
	case x == nil:
		return Result{Code: SessionUnknown}
	case sequence <= x.last && x.last-sequence >= 64:
		return Result{Code: ReceiptForgotten, Duplicate: true}
	case sequence <= x.last && x.bytes[sequence] != string(data):
		return Result{Code: SequenceReused}
	case sequence <= x.last:
		r := x.said[sequence]
		r.Duplicate = true
		return r
	case attempt < x.attempt || attempt == x.attempt && x.closed:
		return Result{Code: Aborted}
	case sequence > x.last+1:
		return Result{Code: SequenceGap}
	}
	x.attempt, x.closed = attempt, false
	r := o.store(keys, entry)
	if r.Code != OK {
		x.closed = true
		return r
	}
	x.last = sequence
	x.said[sequence], x.bytes[sequence] = r, string(data)
	return r
}

// store predicts who keeps messages with these keys.
func (o *model) store(keys []string, entry uint64) Result {
	if o.suspended {
		return Result{Code: Suspended}
	}
	pairs := 0
	for _, d := range o.durables {
		for _, k := range keys {
			if o.wants(d.matcher, k) {
				pairs++
			}
		}
	}
	if o.limit > 0 && pairs > 0 && o.messages()+min(pairs, len(keys)) > o.limit {
		return Result{Code: StoreFull}
	}
	first := o.next
	for _, d := range o.durables {
		caught := d.handing && len(d.pending) <= caughtUp
		for i, k := range keys {
			if id := first + message.ID(i); o.wants(d.matcher, k) {
				d.pending[id] = true
				d.matched++
				if caught {
					d.watermark = max(d.watermark, id)
				}
			}
		}
	}
	for range keys {
		o.entry[o.next] = entry
		o.batch[o.next] = modelBatch{first, len(keys), entry}
		o.next++
	}
	return Result{First: first, Count: uint32(len(keys)), Interested: pairs > 0}
}

// messages predicts the accounted number of messages.
func (o *model) messages() int {
	live := map[message.ID]int{}
	for _, d := range o.durables {
		for id := range d.pending {
			live[o.batch[id].first]++
		}
	}
	n := 0
	for first, pairs := range live {
		n += min(pairs, o.batch[first].count)
	}
	return n
}

func (o *model) settle(durable uint64, r Range) {
	d := o.durables[durable]
	for id := range d.pending {
		if id >= r.First && id <= r.Last {
			delete(d.pending, id)
			delete(d.ended, id)
			delete(d.possible, id)
			d.gone++
		}
	}
}

func (o *model) release(durable uint64, r Range) {
	d := o.durables[durable]
	for id := range d.pending {
		if id >= r.First && id <= r.Last {
			d.ended[id]++
		}
	}
}

func (o *model) newTerm() {
	for _, d := range o.durables {
		for id := range d.pending {
			if d.handing && id <= d.watermark {
				d.possible[id]++
			}
		}
		d.handing = false
	}
}

// live predicts the entries that are needed.
func (o *model) live() []uint64 {
	var out []uint64
	for _, d := range o.durables {
		for id := range d.pending {
			out = append(out, o.entry[id])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// compare compares everything that the machine shows with the model.
func (o *model) compare(m *Machine) error {
	for id, want := range o.durables {
		d, ok := m.Durable(id)
		if !ok {
			return fmt.Errorf("durable %d is not there", id)
		}
		if int(d.Pending().Len()) != len(want.pending) || d.Watermark() != want.watermark ||
			d.d.matched != uint64(want.matched) || d.d.acked != uint64(want.gone) {
			return fmt.Errorf("durable %s: %v, watermark %v, want %d and %v", d.Name(), d.Pending(), d.Watermark(), len(want.pending), want.watermark)
		}
		for p := range want.pending {
			ended, possible := d.Counts(p)
			if !d.Pending().Contains(p) || ended != want.ended[p] || possible != want.possible[p] {
				return fmt.Errorf("durable %s: message %v ended %d times, possible %d, want %d and %d", d.Name(), p, ended, possible, want.ended[p], want.possible[p])
			}
			b, ok := m.Batch(1, p)
			if w := o.batch[p]; !ok || b.First != w.first || int(b.Count) != w.count || b.Index != w.entry {
				return fmt.Errorf("batch of %v: %+v, want %+v", p, b, w)
			}
		}
	}
	for id, want := range o.sessions {
		x, ok := m.Session(id)
		if !ok || x != (Session{Store: 1, Last: want.last, Attempt: want.attempt, Closed: want.closed}) {
			return fmt.Errorf("session %d: %+v, want %+v", id, x, *want)
		}
	}
	st := m.Stats()[0]
	if int(st.Messages) != o.messages() || st.LastID != o.next-1 || len(st.Durables) != len(o.durables) {
		return fmt.Errorf("stats %+v, want %d messages up to %v", st, o.messages(), o.next-1)
	}
	return nil
}

// player makes random entries, for machines that must stay equal.
type player struct {
	t        *testing.T
	rnd      *rand.Rand
	o        *model
	a, b     *Machine // b is loaded from pages now and then
	saved    disk
	savedB   disk
	index    uint64
	term     uint64
	now      int64
	alive    map[uint64]bool // entries for which Live was true
	names    int
	revision uint64
	keys     []string
	log      map[uint64][]byte // data of each entry
}

func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPlayer(t, seed)
			for range 250 {
				p.step()
			}
			p.drain()
		})
	}
}

// newPlayer returns a player that has started.
func newPlayer(t *testing.T, seed uint64) *player {
	p := &player{
		t: t, rnd: rand.New(rand.NewPCG(seed, 3)), o: newModel(), a: New(), b: New(),
		saved: disk{}, savedB: disk{}, term: 1, now: 1e15, alive: map[uint64]bool{}, keys: []string{"a", "b", "c"},
		log: map[uint64][]byte{},
	}
	p.start()
	return p
}

// start deploys one store and opens sessions.
func (p *player) start() {
	p.revision++
	s := &statepb.Store{Id: 1, Name: "flights", Durables: []*statepb.Durable{
		{Id: 10, Name: "all", Kind: 1}, {Id: 11, Name: "only-a", Kind: 2, Matcher: `{"k":"a"}`}}}
	if p.rnd.IntN(2) == 0 {
		p.o.limit = 60
		s.MessageLimit = 60
	}
	p.o.durables[10], p.o.durables[11] = newModelDurable(""), newModelDurable("a")
	p.apply([][]byte{AppendDeploy(nil, &statepb.Deploy{Revision: 1, Stores: []*statepb.Store{s}})})
	for _, r := range p.apply([][]byte{AppendOpenSession(nil, 1, 0, 0), AppendOpenSession(nil, 1, 0, 0)}) {
		p.o.sessions[r.Session] = &modelSession{attempt: 1, said: map[uint64]Result{}, bytes: map[uint64]string{}}
	}
}

// apply applies one entry to both machines and compares what they say.
func (p *player) apply(commands [][]byte) []Result {
	p.t.Helper()
	p.index++
	p.now += p.rnd.Int64N(1e9) - 1e8
	offsets := make([]uint32, len(commands))
	for i, c := range commands {
		offsets[i] = uint32(len(p.log[p.index]))
		p.log[p.index] = append(p.log[p.index], c...)
	}
	ra, err := p.a.Apply(p.index, p.term, p.now, commands, offsets, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	rb, err := p.b.Apply(p.index, p.term, p.now, commands, offsets, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if !slices.Equal(ra, rb) {
		p.t.Fatalf("entry %d: results differ: %+v, %+v", p.index, ra, rb)
	}
	return ra
}

// step makes and checks one entry of one to four commands.
func (p *player) step() {
	p.t.Helper()
	if p.rnd.IntN(15) == 0 {
		p.term++
		p.o.newTerm()
	}
	p.index++ // as apply will see it
	var commands [][]byte
	var want []Result
	for range 1 + p.rnd.IntN(4) {
		c, r := p.command()
		commands, want = append(commands, c), append(want, r)
	}
	p.index--
	got := p.apply(commands)
	for i, w := range want {
		g := got[i]
		if g.Code != w.Code || g.First != w.First || g.Count != w.Count || g.Duplicate != w.Duplicate || g.Interested != w.Interested {
			p.t.Fatalf("entry %d: %s: %+v, want %+v", p.index, Command(commands[i]), g, w)
		}
		if g.Created {
			p.o.durables[g.Durable] = p.o.durables[0]
			delete(p.o.durables, 0)
		}
	}
	p.compare()
}

func (p *player) compare() {
	p.t.Helper()
	for _, m := range []*Machine{p.a, p.b} {
		if err := m.check(); err != nil {
			p.t.Fatalf("entry %d: %v", p.index, err)
		}
		if err := p.o.compare(m); err != nil {
			p.t.Fatalf("entry %d: %v", p.index, err)
		}
	}
	p.compareEntries()
	if p.rnd.IntN(3) == 0 {
		p.saved.save(p.t, p.a)
	}
	if p.rnd.IntN(3) == 0 && p.a.Hash() != p.b.Hash() {
		p.t.Fatalf("entry %d: hashes differ", p.index)
	}
	if p.rnd.IntN(10) == 0 {
		p.savedB.save(p.t, p.b)
		p.b.Dead(func(uint64) {})
		p.b = p.savedB.load(p.t, p.index)
		p.saved.save(p.t, p.a)
		if h := p.a.Hash(); h != p.b.Hash() || h != p.saved.hash() || h != p.savedB.hash() {
			p.t.Fatalf("entry %d: hashes differ after loading", p.index)
		}
	}
}

// compareEntries checks that each entry dies once, when nobody needs it.
func (p *player) compareEntries() {
	p.t.Helper()
	want := p.o.live()
	for _, m := range []*Machine{p.a, p.b} {
		var live []uint64
		m.Live(0, ^uint64(0), func(index uint64) { live = append(live, index) })
		if !slices.Equal(live, want) {
			p.t.Fatalf("entry %d: live %v, want %v", p.index, live, want)
		}
	}
	for _, index := range want {
		p.alive[index] = true
	}
	p.a.Dead(func(index uint64) {
		if _, needed := slices.BinarySearch(want, index); needed || !p.alive[index] && index != p.index {
			p.t.Fatalf("entry %d: %d is dead although needed, or twice", p.index, index)
		}
		delete(p.alive, index)
	})
	if len(p.alive) != len(want) {
		p.t.Fatalf("entry %d: %d entries are needed, %d not dead yet", p.index, len(want), len(p.alive))
	}
}

// command makes a random command and predicts its result.
func (p *player) command() ([]byte, Result) {
	ids := make([]uint64, 0, len(p.o.durables))
	for id := range p.o.durables {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	id := ids[p.rnd.IntN(len(ids))]
	at := message.ID(1 + p.rnd.Uint64N(uint64(p.o.next)))
	r := Range{at, at + message.ID(p.rnd.IntN(20))}
	switch p.rnd.IntN(13) {
	case 0, 1, 2, 3, 4:
		return p.publishCommand()
	case 5, 6, 7:
		p.o.settle(id, r)
		return AppendSettle(nil, id, []Range{r}), Result{}
	case 8:
		p.o.release(id, r)
		return AppendRelease(nil, id, []Range{r}, true), Result{}
	case 9:
		d := p.o.durables[id]
		d.watermark, d.handing = max(d.watermark, at), true
		return AppendWatermark(nil, id, at), Result{}
	case 10:
		return p.lifeCommand(id)
	case 11:
		if p.o.suspended = !p.o.suspended && p.rnd.IntN(2) == 0; p.o.suspended {
			return AppendSuspend(nil, 0), Result{}
		}
		return AppendResume(nil), Result{}
	default:
		return AppendTick(nil, []uint64{1}), Result{}
	}
}

func (p *player) publishCommand() ([]byte, Result) {
	session := 1 + p.rnd.Uint64N(3) // 3 is unknown
	attempt, sequence, last := uint32(1), uint64(1), uint64(0)
	if x := p.o.sessions[session]; x != nil {
		last = x.last
		attempt = max(1, x.attempt+uint32(p.rnd.IntN(4))/2-uint32(p.rnd.IntN(8))/7)
		sequence = max(1, last+1+uint64(p.rnd.IntN(12))/11-p.rnd.Uint64N(3)/2*min(last, p.rnd.Uint64N(70)))
	}
	// Content follows from session and sequence, so that repeats are equal,
	// but for a few.
	rnd := rand.New(rand.NewPCG(session, sequence))
	tag := int(sequence) + p.rnd.IntN(20)/19
	keys := make([]string, 1+rnd.IntN(12))
	for i := range keys {
		keys[i] = p.keys[rnd.IntN(len(p.keys))]
	}
	data := newBatch(p.t, tag, keys...)
	return AppendPublish(nil, 1, session, attempt, sequence, data), p.o.publish(session, attempt, sequence, data, keys, p.index)
}

// lifeCommand creates or deletes a dynamic durable. One that is created is
// under number 0 in the model until its id is known; there is at most one.
func (p *player) lifeCommand(id uint64) ([]byte, Result) {
	if id&dynamicBit != 0 && p.o.suspended {
		return AppendDeleteDurable(nil, id), Result{Code: Suspended}
	}
	if id&dynamicBit != 0 {
		delete(p.o.durables, id)
		return AppendDeleteDurable(nil, id), Result{}
	}
	if p.o.suspended {
		return AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "never", Kind: 1}), Result{Code: Suspended}
	}
	if p.o.durables[0] != nil || len(p.o.durables) > 6 {
		return AppendTick(nil, nil), Result{}
	}
	p.names++
	key := append(p.keys, "")[p.rnd.IntN(4)]
	p.o.durables[0] = newModelDurable(key)
	c := &statepb.CreateDurable{Store: 1, Name: fmt.Sprint("d", p.names), Kind: uint32(durable.KindShared)}
	if key != "" {
		c.Matcher = fmt.Sprintf(`{"k":%q}`, key)
	}
	return AppendCreateDurable(nil, c), Result{}
}

// drain settles everything: nothing is left in the index.
func (p *player) drain() {
	ids := make([]uint64, 0, len(p.o.durables))
	for id := range p.o.durables {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		r := Range{1, p.o.next}
		p.o.settle(id, r)
		p.apply([][]byte{AppendSettle(nil, id, []Range{r})})
		p.compare()
	}
	if st := p.a.Stats()[0]; st.Messages != 0 || st.Bytes != 0 || st.Batches != 0 || len(p.alive) != 0 {
		p.t.Fatalf("left: %+v, %d entries", st, len(p.alive))
	}
}
