package sim

import (
	"errors"

	"github.com/cespare/xxhash/v2"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/integration/model"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
)

// deliver is Subscription.Deliver: it runs on the leader's loop.
func (l *link) deliver(d service.Delivery) {
	w := l.w
	w.note(l.node.id, "deliver", l.sub.Durable, uint64(d.Batch.First), d.Messages())
	if l.node.svc.Suspended() {
		w.judge.Failf("suspended: replica %d hands out messages of durable %d", l.node.id, l.sub.Durable)
	}
	counts := d.Counts
	eachID(&d, func(id message.ID) {
		x := model.Dispatch{Term: l.node.leads, Durable: l.sub.Durable, Subscription: l.sub.ID, Attach: l.sub.Attach, ID: uint64(id)}
		if len(counts) > 0 && counts[0].ID == id {
			x.Ended, x.Possible = counts[0].Ended, counts[0].Possible
			counts = counts[1:]
			if x.Possible > 0 {
				w.seen.hit(PossibleCount)
			}
		}
		if w.judge.Dispatched(x) {
			w.seen.hit(Redelivered)
			if x.Possible > 0 {
				w.seen.hit(RedeliveredAfterFailover)
			}
		}
	})
	if n := d.Messages(); n > l.credit.Messages {
		w.judge.Failf("subscription %d of durable %d has credit for %d messages and gets %d", l.sub.ID, l.sub.Durable, l.credit.Messages, n)
	} else {
		l.credit.Messages -= n
	}
	l.out = append(l.out, d)
	if !l.busy {
		l.busy = true
		l.node.after(w.draw(ms+l.slow), l.pump)
	}
}

func eachID(d *service.Delivery, yield func(message.ID)) {
	if d.Ranges == nil {
		for i := range message.ID(d.Batch.Count) {
			yield(d.Batch.First + i)
		}
		return
	}
	for _, r := range d.Ranges {
		for id := r.First; id <= r.Last; id++ {
			yield(id)
		}
	}
}

// pump reads the bodies of what waits and sends them, where a stream's
// goroutine would.
func (l *link) pump() {
	l.busy = false
	out := l.out
	l.out = nil
	for i := range out {
		if l.serverDone {
			return
		}
		l.send(&out[i])
	}
}

func (l *link) send(d *service.Delivery) {
	w := l.w
	data, err := l.node.log.Command(d.Batch.Index)
	if errors.Is(err, cluster.ErrCollected) {
		if v, ok := l.node.svc.Durable(l.sub.Durable); ok {
			eachID(d, func(id message.ID) {
				if v.Pending().Contains(id) {
					w.judge.Failf("dead entry: %d of durable %d is pending on replica %d, entry %d was collected", id, l.sub.Durable, l.node.id, d.Batch.Index)
				}
			})
		}
		w.seen.hit(SettledMeanwhile)
		l.node.call(func(cluster.Now) {
			l.credit.Messages += d.Messages()
			l.node.svc.Grant(l.sub.ID, dispatch.Credit{Messages: d.Messages(), Bytes: d.Bytes})
		})
		return
	}
	if err != nil {
		w.judge.Failf("replica %d: entry %d of durable %d: %w", l.node.id, d.Batch.Index, l.sub.Durable, err)
		return
	}
	b := w.batchAt(data, d.Batch.Offset, d.Batch.Bytes)
	if b == nil || len(b.Messages) != int(d.Batch.Count) {
		w.judge.Failf("phantom: replica %d: entry %d holds no batch that anybody made at %d", l.node.id, d.Batch.Index, d.Batch.Offset)
		return
	}
	if stamp := w.judge.StampOf(d.Batch.Index); stamp != d.Batch.Stamp {
		w.judge.Failf("a batch of entry %d is delivered with stamp %d, the entry has %d", d.Batch.Index, d.Batch.Stamp, stamp)
	}
	if d.Ranges != nil && w.chance(0.1) {
		w.cutOut(data[d.Batch.Offset:d.Batch.Offset+d.Batch.Bytes], d, b)
	}
	l.toClient(func() { l.s.received(l, d, b) })
}

// batchAt returns the batch that somebody made of exactly these bytes.
func (w *world) batchAt(data []byte, offset, size uint32) *model.Batch {
	if uint64(offset)+uint64(size) > uint64(len(data)) {
		return nil
	}
	return w.batches[xxhash.Sum64(data[offset:offset+size])]
}

// cutOut cuts messages out of a batch, as a server does, and compares.
func (w *world) cutOut(data []byte, d *service.Delivery, want *model.Batch) {
	var sel []int
	eachID(d, func(id message.ID) { sel = append(sel, int(id-d.Batch.First)) })
	cut, err := message.AppendSelection(nil, data, sel)
	if err != nil {
		w.judge.Failf("no messages can be cut out of a stored batch: %w", err)
		return
	}
	b, err := message.ParseBatch(cut)
	if err != nil || b.Count() != len(sel) {
		w.judge.Failf("messages cut out of a batch do not parse: %v", err)
		return
	}
	for i, at := range sel {
		m, err := b.Message(i)
		if err != nil || contentSum(&m) != want.Messages[at].Sum {
			w.judge.Failf("message %d cut out of a batch differs (%v)", at, err)
		}
	}
}

// received takes a frame of messages at the client.
func (s *subscriber) received(l *link, d *service.Delivery, b *model.Batch) {
	w := s.w
	if l != s.last {
		return
	}
	count := d.Messages()
	each := d.Bytes / count
	var now, later []uint64
	eachID(d, func(id message.ID) {
		c := b.Messages[id-d.Batch.First]
		w.judge.Received(s.durable, uint64(id), c.Number, c.Sum)
		if _, ok := s.echoes[uint64(id)]; ok {
			// Acknowledged for an earlier stream. Somebody else may have held it
			// when that acknowledgement came, so the copy has one of its own.
			s.pending = append(s.pending, uint64(id))
			l.giveBack(each)
		} else if w.chance(0.1) {
			later = append(later, uint64(id))
		} else {
			now = append(now, uint64(id))
		}
	})
	w.after(w.draw(w.setup.think), func() { s.handle(l, now, each) })
	for _, id := range later {
		w.after(w.draw(10*w.setup.think), func() { s.handle(l, []uint64{id}, each) })
	}
	s.flushSoon()
}

func (l *link) giveBack(bytes uint64) { l.giveMore(dispatch.Credit{Messages: 1, Bytes: bytes}) }

func (l *link) giveMore(c dispatch.Credit) {
	l.back.Messages += c.Messages
	l.back.Bytes += c.Bytes
	l.credit.Messages += c.Messages // as good as granted: nothing more comes before it is
}

// handle is the application: it acknowledges, gives back, or forgets.
func (s *subscriber) handle(l *link, ids []uint64, each uint64) {
	w := s.w
	if l.s.process != s.process || s.over {
		return
	}
	process := s.process
	sync := false
	for _, id := range ids {
		switch {
		case w.fault(w.setup.forget):
			w.after(w.draw(3*second), func() {
				if s.process == process {
					s.handle(l, []uint64{id}, each)
				}
			})
			continue
		case w.fault(w.setup.nack):
			s.nack(l, id, 0)
		case w.fault(w.setup.delayNack):
			s.nack(l, id, w.draw(200*ms))
		default:
			s.ack(l, id)
			sync = sync || w.chance(w.setup.sync)
		}
		if l == s.last {
			l.giveBack(each)
		}
	}
	if sync && s.open {
		s.flush(s.last)
		return
	}
	s.flushSoon()
}

// nack gives a message back; a stream that is gone has done so already.
func (s *subscriber) nack(l *link, id uint64, delay int64) {
	if l == s.last {
		at := message.ID(id)
		l.nacks = append(l.nacks, service.Nack{Range: service.Range{First: at, Last: at}, Delay: delay})
	}
}

func (s *subscriber) idle() bool { return len(s.pending) == 0 && len(s.tokens) == 0 }
