package client_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// echo is a server on TCP that takes everything and costs little, so that the
// benchmarks measure the client.
type echo struct {
	perdurepb.UnimplementedMessagesServer
	address string
	batch   []byte // what subscribers get, again and again
	count   uint64
}

func startEcho(b *testing.B) *echo {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	e := &echo{address: lis.Addr().String()}
	var builder message.Builder
	for range 450 {
		if err := builder.AddBody(make([]byte, 128)); err != nil {
			b.Fatal(err)
		}
	}
	e.batch, e.count = builder.AppendTo(nil, message.Options{}), 450
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(perdurepb.Codec()), grpc.MaxRecvMsgSize(33<<20),
		grpc.StaticStreamWindowSize(4<<20), grpc.StaticConnWindowSize(16<<20), grpc.WaitForHandlers(true),
	)
	perdurepb.RegisterMessagesServer(server, e)
	go func() { _ = server.Serve(lis) }()
	b.Cleanup(server.Stop)
	return e
}

func (e *echo) Resolve(context.Context, *perdurepb.ResolveRequest) (*perdurepb.ResolveResponse, error) {
	return &perdurepb.ResolveResponse{Leader: &perdurepb.Leader{Server: "s1", Address: e.address}}, nil
}

func (e *echo) Publish(stream perdurepb.Messages_PublishServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&perdurepb.PublishResponse{Opened: &perdurepb.PublishOpened{
		Session: 1, Store: "flights", Attempt: 1, MaxMessageSize: message.MaxMessageSize, HeartbeatMs: 1000, TimeoutMs: 60_000,
	}})
	var request perdurepb.PublishFrame
	outcome := &perdurepb.PublishOutcome{FirstId: 1, Interested: true}
	response := &perdurepb.PublishResponse{Outcomes: []*perdurepb.PublishOutcome{outcome}}
	for err == nil {
		if err = stream.RecvMsg(&request); err != nil || len(request.Batch) == 0 {
			continue
		}
		outcome.Sequence, outcome.Attempt = request.Sequence, request.Attempt
		if _, release := request.Take(); release != nil {
			release()
		}
		err = stream.Send(response)
	}
	return err
}

func (e *echo) Subscribe(stream perdurepb.Messages_SubscribeServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	const credit = 4096
	err := stream.Send(&perdurepb.SubscribeResponse{Opened: &perdurepb.SubscribeOpened{
		Durable: "audit", Store: "flights", CreditMessages: credit, CreditBytes: 16 << 20, HeartbeatMs: 1000, TimeoutMs: 60_000,
	}})
	left, next := uint64(credit), uint64(1)
	for err == nil {
		for left >= e.count && err == nil {
			err = stream.Send(&perdurepb.SubscribeResponse{
				Delivery: &perdurepb.Delivery{Ids: []uint64{next, next + e.count - 1}, Bytes: uint64(len(e.batch))},
				Batch:    e.batch,
			})
			next += e.count
			left -= e.count
		}
		var r *perdurepb.SubscribeRequest
		if r, err = stream.Recv(); err != nil {
			break
		}
		left += r.GetCredit().GetMessages()
		if token := r.GetSettle().GetToken(); token != 0 {
			err = stream.Send(&perdurepb.SubscribeResponse{Settled: &perdurepb.Settled{Token: token}})
		}
		if r.Close {
			return nil
		}
	}
	return err
}

func benchmarkClient(b *testing.B) *client.Client {
	c, err := client.Connect(b.Context(), startEcho(b).address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return c
}

// BenchmarkPublishAsync is the rate of unwaited publishing, with the cost of the
// server in it.
func BenchmarkPublishAsync(b *testing.B) {
	for _, size := range []int{128, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p, err := benchmarkClient(b).Publisher(b.Context(), "flights")
			if err != nil {
				b.Fatal(err)
			}
			m := &message.Message{Body: make([]byte, size)}
			ctx := context.Background()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.PublishAsync(ctx, m)
			}
			if err := p.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkPublishBatches is the same with batches of other sizes, and with
// messages of various sizes: what is allocated per batch.
func BenchmarkPublishBatches(b *testing.B) {
	for _, target := range []int{64 << 10, 256 << 10, 1 << 20} {
		for name, sizes := range map[string][]int{"same": {128}, "various": {40, 300, 90, 1000, 17, 128, 500}, "coarse": {9000, 20_000, 3000, 17_000, 50_000, 1000}, "large": {128, 128, 700 << 10, 128}} {
			b.Run(fmt.Sprintf("%dKiB/%s", target>>10, name), func(b *testing.B) {
				p, err := benchmarkClient(b).Publisher(b.Context(), "flights", client.WithBatchTarget(target), client.WithWindow(8, 8*target))
				if err != nil {
					b.Fatal(err)
				}
				m := &message.Message{}
				body := make([]byte, slices.Max(sizes))
				ctx := context.Background()
				b.SetBytes(int64(target))
				b.ReportAllocs()
				i := 0
				for b.Loop() { // the messages of about one batch
					for sent := 0; sent < target; sent += 4 + len(m.Body) {
						m.Body = body[:sizes[i%len(sizes)]]
						p.PublishAsync(ctx, m)
						i++
					}
				}
				if err := p.Flush(ctx); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkPublish is the time of one confirmed message.
func BenchmarkPublish(b *testing.B) {
	p, err := benchmarkClient(b).Publisher(b.Context(), "flights")
	if err != nil {
		b.Fatal(err)
	}
	m := &message.Message{Body: make([]byte, 128)}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Publish(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceiveAck is the rate of receiving and acknowledging.
func BenchmarkReceiveAck(b *testing.B) {
	s, err := benchmarkClient(b).Subscribe(b.Context(), "flights")
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.SetBytes(128)
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if len(d.Body()) != 128 {
			b.Fatal("not the body")
		}
		if err := d.Ack(); err != nil {
			b.Fatal(err)
		}
	}
}
