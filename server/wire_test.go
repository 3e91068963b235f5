package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// publishing is a raw publish stream.
type publishing struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[perdurepb.PublishRequest, perdurepb.PublishResponse]
	opened *perdurepb.PublishOpened
	next   []*perdurepb.PublishOutcome
}

// publisher opens a publish stream, and returns the error if it does not open.
func (n *node) publisher(open *perdurepb.PublishOpen) (*publishing, error) {
	n.t.Helper()
	stream, err := n.messages.Publish(n.ctx())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&perdurepb.PublishRequest{Open: open}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return &publishing{t: n.t, stream: stream, opened: r.GetOpened()}, nil
}

func (n *node) mustPublisher(endpoint string) *publishing {
	n.t.Helper()
	p, err := n.publisher(&perdurepb.PublishOpen{Endpoint: endpoint})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (p *publishing) send(sequence uint64, attempt uint32, batch []byte) {
	p.t.Helper()
	if err := p.stream.Send(&perdurepb.PublishRequest{Sequence: sequence, Attempt: attempt, Batch: batch}); err != nil {
		p.t.Fatalf("batch %d: %v", sequence, err)
	}
}

// outcome waits for the next outcome.
func (p *publishing) outcome() *perdurepb.PublishOutcome {
	p.t.Helper()
	for len(p.next) == 0 {
		r, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("publish stream: %v", err)
		}
		p.next = r.GetOutcomes()
	}
	o := p.next[0]
	p.next = p.next[1:]
	if o.Error != nil {
		checkError(p.t, o.Error)
	}
	return o
}

// publish sends a batch and returns what became of it.
func (p *publishing) publish(sequence uint64, attempt uint32, batch []byte) *perdurepb.PublishOutcome {
	p.t.Helper()
	p.send(sequence, attempt, batch)
	o := p.outcome()
	if o.Sequence != sequence || o.Attempt != attempt {
		p.t.Fatalf("outcome of %d/%d, want %d/%d", o.Sequence, o.Attempt, sequence, attempt)
	}
	return o
}

func (p *publishing) stored(sequence uint64, attempt uint32, batch []byte) *perdurepb.PublishOutcome {
	p.t.Helper()
	o := p.publish(sequence, attempt, batch)
	if o.Error != nil {
		p.t.Fatalf("batch %d: %v", sequence, o.Error)
	}
	return o
}

func (p *publishing) refused(sequence uint64, attempt uint32, batch []byte, want perdurepb.Reason) *perdurepb.Error {
	p.t.Helper()
	o := p.publish(sequence, attempt, batch)
	if o.Error.GetReason() != want {
		p.t.Fatalf("batch %d: %v, want %v", sequence, o.Error, want)
	}
	return o.Error
}

// end reads until the stream ends, and returns why it did.
func (p *publishing) end() error {
	for {
		if _, err := p.stream.Recv(); err != nil {
			return err
		}
	}
}

// subscribing is a raw subscribe stream.
type subscribing struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[perdurepb.SubscribeRequest, perdurepb.SubscribeResponse]
	opened *perdurepb.SubscribeOpened
}

func (n *node) subscriber(open *perdurepb.SubscribeOpen) (*subscribing, error) {
	n.t.Helper()
	stream, err := n.messages.Subscribe(n.ctx())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&perdurepb.SubscribeRequest{Open: open}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return &subscribing{t: n.t, stream: stream, opened: r.GetOpened()}, nil
}

func (n *node) mustSubscriber(open *perdurepb.SubscribeOpen) *subscribing {
	n.t.Helper()
	s, err := n.subscriber(open)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (s *subscribing) say(m *perdurepb.SubscribeRequest) {
	s.t.Helper()
	if err := s.stream.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

// frame waits for the next frame that is no heartbeat.
func (s *subscribing) frame() *perdurepb.SubscribeResponse {
	s.t.Helper()
	for {
		r, err := s.stream.Recv()
		if err != nil {
			s.t.Fatalf("subscribe stream: %v", err)
		}
		if !r.GetHeartbeat() {
			return r
		}
	}
}

// receive waits for n messages and returns their ids.
func (s *subscribing) receive(n int) []uint64 {
	s.t.Helper()
	var ids []uint64
	for len(ids) < n {
		d := s.frame().GetDelivery()
		if d == nil {
			continue
		}
		for i := 0; i < len(d.GetIds()); i += 2 {
			for id := d.Ids[i]; id <= d.Ids[i+1]; id++ {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// settle settles and waits for the answer.
func (s *subscribing) settle(m *perdurepb.Settle) *perdurepb.Error {
	s.t.Helper()
	s.say(&perdurepb.SubscribeRequest{Settle: m})
	for {
		if a := s.frame().GetSettled(); a.GetToken() == m.Token {
			if a.Error != nil {
				checkError(s.t, a.Error)
			}
			return a.Error
		}
	}
}

// end reads until the stream ends, and returns why it did.
func (s *subscribing) end() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}

// bodies is a batch of messages that are nothing but bodies.
func bodies(texts ...string) []byte {
	var b message.Builder
	b.SetMaxMessageSize(message.HardMaxMessageSize)
	for _, text := range texts {
		if err := b.AddBody([]byte(text)); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// messagesOf is a batch of messages.
func messagesOf(ms ...*message.Message) []byte {
	var b message.Builder
	for _, m := range ms {
		if err := b.Add(m); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// recount sets the number of messages in a batch's header, whose checksum then
// holds.
func recount(batch []byte, n uint32) []byte {
	binary.LittleEndian.PutUint32(batch[4:], n)
	end := message.HeaderSize - 4
	binary.LittleEndian.PutUint32(batch[end:], crc32.Checksum(batch[:end], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

// notUTF8 is a batch whose message has a header that is not UTF-8, with the
// checksums of one that is well formed.
func notUTF8(t testing.TB) []byte {
	t.Helper()
	m := &message.Message{Headers: []message.Header{{Name: "note", Value: "QQQQ"}}}
	b := messagesOf(m)
	at := bytes.Index(b, []byte("QQQQ"))
	if at < 0 {
		t.Fatal("the header is not where it was")
	}
	b[at] = 0xff
	h, err := message.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[message.HeaderSize:message.HeaderSize+h.HeadLen], castagnoli))
	return recount(b, uint32(h.Count))
}
