package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/perdure/perdure/bench"
)

const (
	// confirmPatience is how long a publisher waits for a confirmation.
	confirmPatience = 10 * time.Second
	// holdPoll is how soon a publisher looks again whether the backlog has shrunk.
	holdPoll = 200 * time.Microsecond
	// fastFlow is how many messages of a fast batch share a confirmation, and
	// fastAhead how many of these may be outstanding.
	fastFlow, fastAhead = 500, 3
	// atomicSize is how many messages an atomic batch has.
	atomicSize = 100
)

var errNoConfirmation = fmt.Errorf("no confirmation within %v", confirmPatience)

// natsPublisher publishes on one connection. It is lighter than the library's
// own asynchronous publisher, which costs NATS a tenth.
type natsPublisher struct {
	r       *natsRun
	conn    *nats.Conn
	subject string
	body    []byte
}

func (r *natsRun) publisher(i int) (*natsPublisher, error) {
	conn, err := r.connect(r.stream.url)
	if err != nil {
		return nil, err
	}
	p := &natsPublisher{r: r, conn: conn, subject: fmt.Sprintf("%s.%d", streamName, i), body: make([]byte, r.load.Size)}
	for k := range p.body {
		p.body[k] = byte(k*31 + i) // not all zeros: nothing is to gain from that
	}
	return p, nil
}

// refused returns what a confirmation says went wrong, or nil.
func refused(m *nats.Msg) error {
	if len(m.Data) == 0 || bytes.Contains(m.Data, []byte(`"error"`)) {
		return fmt.Errorf("a message is refused: %s %v", m.Data, m.Header)
	}
	return nil
}

// hold waits while too much of a stream is not consumed.
func (p *natsPublisher) hold(ctx context.Context) error {
	if !p.r.load.consumed {
		return nil
	}
	for p.r.confirmed.messages.Load()-p.r.consumed.messages.Load() > int64(p.r.load.backlog) {
		if err := wait(ctx, holdPoll); err != nil {
			return err
		}
	}
	return nil
}

// window publishes with so many messages unconfirmed: count of them, until all
// are confirmed, or until ctx ends if count is 0.
func (p *natsPublisher) window(ctx context.Context, window, count int) error {
	slots := make(chan struct{}, window)
	inbox := nats.NewInbox()
	_, err := p.conn.Subscribe(inbox, func(m *nats.Msg) {
		if err := refused(m); err != nil {
			p.r.fail(err)
			return
		}
		p.r.confirmed.messages.Add(1)
		<-slots
	})
	if err != nil {
		return err
	}
	for n := 0; count == 0 || n < count; n++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		if err := p.hold(ctx); err != nil {
			return nil // it is over
		}
		if err := p.conn.PublishRequest(p.subject, inbox, p.body); err != nil {
			return err
		}
	}
	for range window { // all slots are free: all is confirmed
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		case <-time.After(confirmPatience):
			return errNoConfirmation
		}
	}
	return nil
}

// paced publishes when messages are due, confirmed or not.
func (p *natsPublisher) paced(ctx context.Context) error {
	inbox := nats.NewInbox()
	_, err := p.conn.Subscribe(inbox, func(m *nats.Msg) {
		if err := refused(m); err != nil {
			p.r.fail(err)
		}
	})
	if err != nil {
		return err
	}
	pace := bench.NewPacer(float64(p.r.load.rate), time.Now())
	for {
		meant, err := pace.Wait(ctx)
		if err != nil {
			return nil // it is over
		}
		binary.LittleEndian.PutUint64(p.body, uint64(meant.Sub(p.r.base)))
		if err := p.conn.PublishRequest(p.subject, inbox, p.body); err != nil {
			return err
		}
	}
}

// oneByOne publishes a message when the last is confirmed.
func (p *natsPublisher) oneByOne(ctx context.Context) error {
	js, err := jetstream.New(p.conn)
	if err != nil {
		return err
	}
	for {
		began := time.Now()
		if _, err := js.Publish(ctx, p.subject, p.body); err != nil {
			if ctx.Err() != nil {
				return nil // it is over
			}
			return fmt.Errorf("publish: %w", err)
		}
		p.r.confirmed.time(time.Since(began))
		p.r.confirmed.messages.Add(1)
	}
}

// atomic publishes batches that are stored whole, each after the last.
func (p *natsPublisher) atomic(ctx context.Context) error {
	for ctx.Err() == nil {
		id := nuid.Next()
		for k := 1; k <= atomicSize; k++ {
			m := &nats.Msg{Subject: p.subject, Data: p.body, Header: nats.Header{
				"Nats-Batch-Id":       []string{id},
				"Nats-Batch-Sequence": []string{strconv.Itoa(k)},
			}}
			if k < atomicSize {
				if err := p.conn.PublishMsg(m); err != nil {
					return err
				}
				continue
			}
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			answer, err := p.conn.RequestMsg(m, confirmPatience)
			if err == nil {
				err = refused(answer)
			}
			if err != nil {
				return err
			}
		}
		p.r.confirmed.messages.Add(atomicSize)
	}
	return nil
}

// flowAck is what the server says about a fast batch: that all up to Seq is
// stored, and that it will say so every Msgs messages.
type flowAck struct {
	Type  string
	Seq   int64
	Msgs  int64
	Error json.RawMessage
}

// fast publishes one endless fast batch: confirmations are shared by many
// messages, and come as often as the server likes. The library has no call for
// it; the subject of the reply carries the protocol:
// PREFIX.ID.FLOW.GAP.SEQUENCE.OPERATION.$FI
func (p *natsPublisher) fast(ctx context.Context) error {
	var acked, flow atomic.Int64
	flow.Store(1)
	news := make(chan struct{}, 1)
	reply := nats.NewInbox() + "." + nuid.Next()
	_, err := p.conn.Subscribe(reply+".>", func(m *nats.Msg) {
		var a flowAck
		switch err := json.Unmarshal(m.Data, &a); {
		case err != nil:
			p.r.fail(fmt.Errorf("fast batch: %w", errors.Join(refused(m), err)))
			return
		case a.Error != nil || a.Type != "ack":
			p.r.fail(fmt.Errorf("fast batch: the server says %s", m.Data))
			return
		}
		flow.Store(max(1, a.Msgs))
		if more := a.Seq - acked.Load(); more > 0 {
			acked.Store(a.Seq)
			p.r.confirmed.messages.Add(more)
		}
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	prefix := reply + "." + strconv.Itoa(fastFlow) + ".fail."
	patience := time.NewTimer(confirmPatience)
	defer patience.Stop()
	for seq := int64(1); ctx.Err() == nil; seq++ {
		operation := ".1.$FI"
		if seq == 1 {
			operation = ".0.$FI"
		}
		if err := p.hold(ctx); err != nil {
			return nil // it is over
		}
		if err := p.conn.PublishRequest(p.subject, prefix+strconv.FormatInt(seq, 10)+operation, p.body); err != nil {
			return err
		}
		// The start is answered at once; then some may be ahead.
		for first := seq == 1; first || seq-acked.Load() >= max(4, fastAhead*flow.Load()); first = false {
			patience.Reset(confirmPatience)
			select {
			case <-news:
			case <-ctx.Done():
				return nil
			case <-patience.C:
				return fmt.Errorf("fast batch: %w", errNoConfirmation)
			}
		}
	}
	return nil
}
