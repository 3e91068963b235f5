package sim

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/integration/model"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// machine is a service that tells the judge what it applies.
type machine struct {
	*service.Service
	n     *node
	loads bool // by the start of the process, not by a snapshot
	fresh bool // no command was applied since

	restarted bool
	buf       []byte
}

func newMachine(n *node, svc *service.Service) *machine { return &machine{Service: svc, n: n} }

// Loaded implements cluster.Machine.
func (m *machine) Loaded(applied uint64) error {
	if err := m.Service.Loaded(applied); err != nil {
		return err
	}
	m.n.w.judge.Began(m.n.id, applied, m.Hash(), !m.loads)
	m.restarted = m.loads && applied > 0
	m.loads, m.fresh = false, true
	return nil
}

// Apply implements cluster.Machine.
func (m *machine) Apply(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	from, w := len(out), m.n.w
	out, err := m.apply(e, out)
	if err != nil {
		return out, err
	}
	if !m.n.up {
		return out, nil // it crashed in the middle: nobody will know
	}
	results := out[from:]
	first := w.judge.Applied(m.n.id, model.Entry{
		Index: e.Index, Term: e.Term, Stamp: e.Stamp,
		Content: m.contentOf(e), Results: m.resultsOf(results), State: m.Hash(),
	})
	w.note(m.n.id, "apply", e.Index, e.Term, uint64(len(e.Commands)))
	if first {
		w.learn(e, results)
		w.checkStamp(e)
	}
	if w.judge.Err() != nil {
		panic(errOver)
	}
	return out, nil
}

func (m *machine) contentOf(e cluster.Entry) uint64 {
	h := xxhash.New()
	for _, c := range e.Commands {
		m.buf = binary.LittleEndian.AppendUint32(m.buf[:0], uint32(len(c)))
		_, _ = h.Write(m.buf) // a Digest never fails
		_, _ = h.Write(c)
	}
	return h.Sum64()
}

func (m *machine) resultsOf(results []store.Result) uint64 {
	m.buf = m.buf[:0]
	le := binary.LittleEndian
	for _, r := range results {
		flags := byte(0)
		for i, f := range [...]bool{r.Interested, r.Duplicate, r.Created} {
			if f {
				flags |= 1 << i
			}
		}
		m.buf = append(m.buf, byte(r.Code), flags)
		for _, v := range [...]uint64{uint64(r.Count), uint64(r.First), uint64(r.Attempt), r.Session, r.Last, r.Durable, r.Attach} {
			m.buf = le.AppendUint64(m.buf, v)
		}
	}
	return xxhash.Sum64(m.buf)
}

// leading tells who leads.
type leading struct {
	*service.Service
	n *node
}

// Lead implements cluster.Leading.
func (l leading) Lead(term uint64, now cluster.Now) {
	l.n.w.judge.Leads(term, l.n.id)
	l.n.w.note(l.n.id, "lead", term, 0, 0)
	l.n.w.seen.led(term)
	l.n.w.leadBegins(term)
	l.n.leads = term
	l.Service.Lead(term, now)
}

// Unlead implements cluster.Leading.
func (l leading) Unlead() {
	l.n.w.note(l.n.id, "unlead", l.n.leads, 0, 0)
	l.n.leads = 0
	l.Service.Unlead()
}

// Kinds of commands: the first byte, as package store writes them. They are in
// logs for ever.
const (
	kindPublish   = 1
	kindSettle    = 2
	kindRelease   = 3
	kindWatermark = 4
)

// learn replays an entry in the model.
func (w *world) learn(e cluster.Entry, results []store.Result) {
	w.judge.Machine.Advance(e.Term, e.Stamp)
	for i, c := range e.Commands {
		r := results[i]
		if t := w.proposed[xxhash.Sum64(c)]; t != nil {
			t.applied++
			w.checkTally(t)
		}
		if poisoned := w.poisoned[string(c)]; poisoned && r.Code == store.Invalid {
			w.seen.hit(PoisonApplied)
			continue
		}
		w.learnCommand(c, resultOf(r))
		if r.Code == store.Diverged || r.Code == store.Invalid {
			w.judge.Failf("entry %d: %s: %v: %s", e.Index, store.Command(c), r.Code, r.Detail)
		}
		if err := w.judge.Err(); err != nil {
			w.noteText(0, "command", e.Index, uint64(i), 0, store.Command(c))
			return
		}
	}
}

func resultOf(r store.Result) model.Result {
	return model.Result{
		Code: r.Code.String(), Interested: r.Interested, Duplicate: r.Duplicate, Created: r.Created,
		Count: r.Count, First: uint64(r.First), Attempt: r.Attempt, Session: r.Session, Last: r.Last, Durable: r.Durable, Attach: r.Attach,
	}
}

func (w *world) learnCommand(c []byte, r model.Result) {
	le, j := binary.LittleEndian, w.judge
	switch c[0] {
	case kindPublish:
		p := model.Publish{Store: le.Uint64(c[1:]), Session: le.Uint64(c[9:]), Attempt: le.Uint32(c[17:]), Sequence: le.Uint64(c[21:])}
		if p.Session == 0 {
			w.seen.hit(WithoutSession)
		}
		p.Batch = w.batches[xxhash.Sum64(c[store.PublishHeaderLen:])]
		if p.Batch == nil {
			j.Failf("phantom: nobody made the batch of %s", store.Command(c))
			return
		}
		w.countPublish(r)
		j.Publish(p, r)
	case kindSettle:
		j.Settle(le.Uint64(c[1:]), rangesOf(c[9:]), r)
	case kindRelease:
		w.seen.hit(MessageReturned)
		j.Check(j.Machine.Release(le.Uint64(c[1:]), rangesOf(c[10:]), c[9] == 1, r))
	case kindWatermark:
		w.seen.hit(WatermarkRaised)
		j.Check(j.Machine.RaiseWatermark(le.Uint64(c[1:]), le.Uint64(c[9:]), r))
	default:
		w.learnRare(c, r)
	}
}

func rangesOf(b []byte) []model.Range {
	le := binary.LittleEndian
	out := make([]model.Range, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		out = append(out, model.Range{First: le.Uint64(b), Last: le.Uint64(b[8:])})
	}
	return out
}

// countPublish notes how the sessions were put to the test.
func (w *world) countPublish(r model.Result) {
	switch r.Code {
	case "ok":
		if r.Duplicate {
			w.seen.hit(RetryHitWindow)
		}
	case "receipt forgotten":
		w.seen.hit(ReceiptForgotten)
	case "store full", "corrupt":
		w.seen.hit(BatchRejected)
	case "aborted":
		w.seen.hit(AttemptAborted)
	case "sequence gap":
		w.seen.hit(SequenceGap)
	case "sequence reused":
		w.seen.hit(SequenceReused)
	case "suspended":
		w.seen.hit(PublishSuspended)
	case "session unknown":
		w.seen.hit(SessionExpired)
	}
}

// Kinds of rare commands, in the order of the protocol.
const (
	kindOpenSession   = 16
	kindCloseSession  = 17
	kindCreateDurable = 18
	kindDeleteDurable = 19
	kindAttach        = 20
	kindDetach        = 21
	kindDeploy        = 22
	kindChecksum      = 23
	kindTick          = 24
	kindSuspend       = 25
	kindResume        = 26
)

func (w *world) learnRare(c []byte, r model.Result) {
	m := w.judge.Machine
	var err error
	decode := func(p proto.Message) {
		if err := proto.Unmarshal(c[1:], p); err != nil {
			w.judge.Failf("a command does not decode: %w", err)
		}
	}
	switch c[0] {
	case kindOpenSession:
		var p statepb.OpenSession
		decode(&p)
		err = m.OpenSession(p.Store, r)
	case kindCloseSession:
		var p statepb.CloseSession
		decode(&p)
		err = m.CloseSession(p.Session, r)
	case kindCreateDurable:
		var p statepb.CreateDurable
		decode(&p)
		err = m.CreateDurable(p.Store, p.Name, p.Kind == kindStandard, interestOf(p.Matcher), r)
	case kindDeleteDurable:
		var p statepb.DeleteDurable
		decode(&p)
		err = m.DeleteDurable(p.Durable, r)
	case kindAttach:
		var p statepb.Attach
		decode(&p)
		err = m.Attach(p.Durable, p.Process, p.Nonce, r)
	case kindDetach:
		var p statepb.Detach
		decode(&p)
		err = m.Detach(p.Durable, p.Attach, r)
	case kindDeploy:
		var p statepb.Deploy
		decode(&p)
		err = m.Deploy(p.Revision, definitionOf(&p), r)
	case kindSuspend:
		err = m.Suspend(r)
	case kindResume:
		err = m.Resume(r)
	case kindChecksum:
		w.seen.hit(ChecksumApplied)
	case kindTick:
		var p statepb.Tick
		decode(&p)
		for _, id := range p.Keep {
			m.Keep(id)
		}
	default:
		w.judge.Failf("a command of unknown kind %d is applied", c[0])
	}
	w.judge.Check(err)
}

// tally counts what became of a command that was proposed.
type tally struct{ proposed, refused, applied int }

func (w *world) tally(command []byte) *tally {
	key := xxhash.Sum64(command)
	t := w.proposed[key]
	if t == nil {
		t = &tally{}
		w.proposed[key] = t
	}
	return t
}

// checkTally checks that no command is applied more often than it was proposed
// and not refused.
func (w *world) checkTally(t *tally) {
	if t.applied > t.proposed-t.refused {
		w.judge.Failf("a command was applied %d times; it was proposed %d times, of which %d were refused with nothing done", t.applied, t.proposed, t.refused)
	}
}
