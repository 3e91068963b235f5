package server

import (
	"errors"
	"fmt"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
)

func (p *subscribeStream) send(items []delivered) error {
	for i := range items {
		if items[i].settled != nil {
			if err := p.stream.Send(&perdurepb.SubscribeResponse{Settled: items[i].settled}); err != nil {
				return err
			}
			p.window.paid(1)
			continue
		}
		if p.over.Load() {
			continue // it is free again, perhaps with another subscriber
		}
		if err := p.deliver(&items[i].delivery); err != nil && !p.over.Load() {
			return err
		}
	}
	return nil
}

// deliver reads the bodies and sends them: a whole batch as it is stored, or
// what is owed of it cut out.
func (p *subscribeStream) deliver(d *service.Delivery) error {
	data, err := p.target.hosted.group.Log().Command(d.Batch.Index)
	if errors.Is(err, cluster.ErrCollected) {
		// Settled meanwhile: the credit goes back.
		p.target.hosted.group.Go(func(cluster.Now) {
			p.target.hosted.service.Grant(p.sub.ID, dispatch.Credit{Messages: d.Messages(), Bytes: d.Bytes})
		})
		return nil
	}
	if err != nil {
		return err
	}
	from, to := uint64(d.Batch.Offset), uint64(d.Batch.Offset)+uint64(d.Batch.Bytes)
	if to > uint64(len(data)) {
		return corrupt(d, fmt.Errorf("the entry has %d bytes, the batch ends at %d", len(data), to))
	}
	r := &perdurepb.SubscribeResponse{Delivery: &perdurepb.Delivery{Stamp: d.Batch.Stamp, Bytes: d.Bytes}, Batch: data[from:to:to]}
	if d.Ranges == nil {
		r.Delivery.Ids = []uint64{uint64(d.Batch.First), uint64(d.Batch.Last())}
	} else if err := p.cut(d, r); err != nil {
		return corrupt(d, err)
	}
	for _, c := range d.Counts {
		r.Delivery.Counted = append(r.Delivery.Counted, position(d, c.ID))
		r.Delivery.Ended = append(r.Delivery.Ended, c.Ended)
		r.Delivery.Possible = append(r.Delivery.Possible, c.Possible)
	}
	return p.stream.Send(r)
}

// corrupt is a fault of what is stored here, not of the client.
func corrupt(d *service.Delivery, err error) *fault {
	return faultf(perdurepb.Reason_REASON_CORRUPT, "the batch of message %v, stored in entry %d, fails a check: %v; this replica must be replaced", d.Batch.First, d.Batch.Index, err)
}

func (p *subscribeStream) cut(d *service.Delivery, r *perdurepb.SubscribeResponse) error {
	p.at = p.at[:0]
	for _, run := range d.Ranges {
		r.Delivery.Ids = append(r.Delivery.Ids, uint64(run.First), uint64(run.Last))
		for id := run.First; id <= run.Last; id++ {
			p.at = append(p.at, int(id-d.Batch.First))
		}
	}
	// The stream may still hold the bytes that were sent last, so each delivery
	// has its own.
	var err error
	r.Batch, err = message.AppendSelection(nil, r.Batch, p.at)
	return err
}

// position is where a message is in what is sent.
func position(d *service.Delivery, id message.ID) uint32 {
	if d.Ranges == nil {
		return uint32(id - d.Batch.First)
	}
	at := uint32(0)
	for _, r := range d.Ranges {
		if id <= r.Last {
			return at + uint32(id-r.First)
		}
		at += uint32(r.Last-r.First) + 1
	}
	return at
}
