package peer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

func TestMessagesBetweenThree(t *testing.T) {
	a, b, c := start(t, 1, "s1", nil), start(t, 2, "s2", nil), start(t, 3, "s3", nil)
	nodes := []*node{a, b, c}
	introduceAll(nodes...)
	for _, n := range nodes {
		await(t, n.links, "first peer")
		await(t, n.links, "second peer")
	}
	for _, n := range nodes {
		for _, o := range nodes {
			if n == o {
				continue
			}
			from, to := n.opts.Server, o.opts.Server
			e, m := heartbeat(10*from+to, from, to)
			if !n.Send(to, e, m) {
				t.Fatalf("send from %d to %d was refused", from, to)
			}
			got := await(t, o.messages, "heartbeat")
			e.Incarnation = n.opts.Incarnation
			if got.server != from || got.envelope != e || !proto.Equal(got.message, m) {
				t.Fatalf("got %+v, want %+v from %d: %v", got, e, from, m)
			}
		}
	}
}

func TestAppendsKeepBytesAndOrder(t *testing.T) {
	a, b := pair(t, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	var sent []*pb.Message
	for i := range 300 {
		var data [][]byte
		for range rng.IntN(5) {
			d := make([]byte, rng.IntN(1<<rng.IntN(18)+1))
			for j := range d {
				d[j] = byte(rng.Uint32())
			}
			data = append(data, d)
		}
		if i == 150 { // more parts than one writev takes
			for range 3000 {
				data = append(data, []byte{byte(i), 1, 2})
			}
		}
		e, m := entries(5, 1, 2, uint64(100*i), data...)
		until(t, "room in the queue", func() bool { return a.Send(2, e, m) })
		sent = append(sent, m)
	}
	for i, m := range sent {
		got := await(t, b.messages, "append")
		if !proto.Equal(got.message, m) {
			t.Fatalf("append %d differs", i)
		}
	}
}

func TestLargestMessage(t *testing.T) {
	a, b := pair(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 33<<20/16)
	e, m := entries(5, 1, 2, 1, data)
	if !a.Send(2, e, m) {
		t.Fatal("a message of 33 MiB was refused")
	}
	if got := await(t, b.messages, "large append"); !bytes.Equal(got.message.Entries[0].Data, data) {
		t.Fatal("bytes differ")
	}
	e, m = entries(5, 1, 2, 1, make([]byte, MaxFrame))
	if a.Send(2, e, m) {
		t.Fatal("a message above the frame limit was queued")
	}
}

func TestReadIndexEntriesTravelByControl(t *testing.T) {
	a, b := pair(t, nil)
	e := cluster.Envelope{Group: 1, From: 11, To: 22}
	m := &pb.Message{
		Type: pb.MsgReadIndex.Enum(), From: new(uint64(11)), To: new(uint64(22)),
		Entries: []*pb.Entry{{Data: []byte("request 1")}}, Context: []byte("ctx"),
	}
	if !a.Send(2, e, m) {
		t.Fatal("refused")
	}
	if got := await(t, b.messages, "read index"); !proto.Equal(got.message, m) {
		t.Fatalf("got %v, want %v", got.message, m)
	}
}

func TestControlIsNotQueuedBehindAppends(t *testing.T) {
	a, b := pair(t, nil)
	begun, release := make(chan struct{}, 2), make(chan struct{})
	b.hold.Store(new(func(m *pb.Message) {
		if isAppend(m) {
			begun <- struct{}{}
			<-release
		}
	}))
	e, m := entries(5, 1, 2, 1, []byte("x"))
	if !a.Send(2, e, m) {
		t.Fatal("append refused")
	}
	await(t, begun, "the append to be held")
	e, m = heartbeat(6, 1, 2)
	if !a.Send(2, e, m) {
		t.Fatal("heartbeat refused")
	}
	if got := await(t, b.messages, "heartbeat"); got.envelope != (cluster.Envelope{Group: 6, Epoch: 3, From: 1, To: 2, Incarnation: 1001}) {
		t.Fatalf("got %+v", got)
	}
	close(release)
	await(t, b.messages, "append")
}

func TestQueuesAreBounded(t *testing.T) {
	a, b := pair(t, nil)
	hold := make(chan struct{})
	b.hold.Store(new(func(*pb.Message) { <-hold }))
	refused := false
	data := make([]byte, 1<<20)
	sent := 0
	for range 1 << 10 { // far more than queue and socket buffers hold
		e, m := entries(5, 1, 2, 1, data)
		if !a.Send(2, e, m) {
			refused = true
			break
		}
		sent++
	}
	if !refused {
		t.Fatal("a gigabyte was queued for a peer that does not read")
	}
	if got := a.Peers()[0]; got.Unsent != 1 || !got.Up {
		t.Fatalf("status %+v", got)
	}
	close(hold)
	for range sent {
		await(t, b.messages, "queued append")
	}
	refused = false
	hold2 := make(chan struct{})
	b.hold.Store(new(func(*pb.Message) { <-hold2 }))
	defer close(hold2)
	for i := range 1 << 22 {
		e, m := heartbeat(uint64(i), 1, 2)
		if !a.Send(2, e, m) {
			refused = true
			break
		}
	}
	if !refused {
		t.Fatal("millions of heartbeats were queued for a peer that does not read")
	}
}

func TestManyHeartbeatsShareFrames(t *testing.T) {
	a, b := pair(t, nil)
	const groups = 5000
	for g := range uint64(groups) {
		e, m := heartbeat(g, 1, 2)
		until(t, "room", func() bool { return a.Send(2, e, m) })
	}
	for g := range uint64(groups) {
		if got := await(t, b.messages, "heartbeat"); got.envelope.Group != g {
			t.Fatalf("got group %d, want %d", got.envelope.Group, g)
		}
	}
}

func TestSendRefusesWhatMayNotTravel(t *testing.T) {
	a, b := pair(t, nil)
	for kind := range pb.MessageType_name {
		m := &pb.Message{Type: pb.MessageType(kind).Enum(), From: new(uint64(1)), To: new(uint64(2))}
		e := cluster.Envelope{Group: 1, From: 1, To: 2}
		want := carried[min(int(kind), len(carried)-1)] && int(kind) < len(carried) && pb.MessageType(kind) != pb.MsgSnap
		if got := a.Send(2, e, m); got != want {
			t.Errorf("Send of %s: %t, want %t", m.GetType(), got, want)
		}
		if want {
			await(t, b.messages, m.GetType().String())
		}
	}
	e, m := heartbeat(1, 1, 2)
	e.From = 9
	if a.Send(2, e, m) {
		t.Error("another From was sent")
	}
	e, m = heartbeat(1, 1, 2)
	e.To = 9
	if a.Send(2, e, m) {
		t.Error("another To was sent")
	}
	if a.Send(7, e, m) || a.Send(1, e, m) {
		t.Error("sent to nobody")
	}
}

func TestClocks(t *testing.T) {
	var mu sync.Mutex
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	began := time.Now()
	a, b := pair(t, func(o *Options) {
		if o.Server == 1 {
			o.Now = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				base = base.Add(time.Second)
				return base
			}
		}
	})
	first := await(t, b.walls, "clock")
	second := await(t, b.walls, "clock again")
	if first.server != 1 || second.theirs <= first.theirs || time.Unix(0, first.theirs).Year() != 2030 {
		t.Fatalf("clocks %+v, %+v", first, second)
	}
	if time.Since(time.Unix(0, first.ours)).Abs() > time.Hour {
		t.Fatalf("own clock %d", first.ours)
	}
	// Each clock is echoed, also when the next has left already.
	for range 3 {
		e := await(t, a.echoes, "echo")
		if e.server != 2 || !e.left.After(began) || !e.left.Before(time.Now()) {
			t.Fatalf("echo %+v", e)
		}
		began = e.left
	}
	until(t, "a round-trip time", func() bool { return b.Peers()[0].RoundTrip > 0 && a.Peers()[0].RoundTrip > 0 })
}

func TestReconnectAfterTheOtherEndDies(t *testing.T) {
	a, b := pair(t, nil)
	b.Close()
	expect(t, a.links, "down 2")
	expect(t, b.links, "down 1")
	e, m := heartbeat(1, 1, 2)
	until(t, "sending to be refused", func() bool { return !a.Send(2, e, m) })
	again := start(t, 2, "s2", func(o *Options) {
		o.Address = b.Addr().String()
		o.Incarnation = 777
	})
	again.SetPeers(map[uint64]Peer{1: peerOf(a)})
	expect(t, a.links, "up 2")
	expect(t, again.links, "up 1")
	if got := a.Peers()[0]; got.Incarnation != 777 || got.LastError == nil {
		t.Fatalf("status %+v", got)
	}
	if !a.Send(2, e, m) {
		t.Fatal("refused after reconnect")
	}
	await(t, again.messages, "heartbeat")
}

func TestSetPeersLive(t *testing.T) {
	a, b := pair(t, nil)
	a.SetPeers(map[uint64]Peer{2: peerOf(b)}) // the same again
	select {
	case l := <-a.links:
		t.Fatalf("unchanged peer: %s", l)
	default:
	}
	a.SetPeers(nil)
	expect(t, a.links, "down 2")
	expect(t, b.links, "down 1")
	if e, m := heartbeat(1, 1, 2); a.Send(2, e, m) {
		t.Fatal("sent to a removed peer")
	}
	until(t, "refusal to be seen", func() bool {
		err := b.Peers()[0].LastError
		return err != nil && cause(err) == ErrUnknownPeer
	})
	a.SetPeers(map[uint64]Peer{2: peerOf(b)})
	expect(t, a.links, "up 2")
	expect(t, b.links, "up 1")
}

func TestCoreNumbersNames(t *testing.T) {
	got := Core(map[string]string{"s2": "b:1", "s10": "c:1", "s1": "a:1"})
	want := map[uint64]Peer{1: {"s1", "a:1"}, 2: {"s10", "c:1"}, 3: {"s2", "b:1"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestOpenChecksOptions(t *testing.T) {
	if _, err := Open(Options{}); err == nil {
		t.Fatal("opened without a name, an incarnation, a receiver and an address")
	}
	a := start(t, 1, "s1", nil)
	if _, err := Open(Options{Name: "x", Incarnation: 1, Receiving: newRecorder(), Address: a.Addr().String()}); err == nil {
		t.Fatal("opened on an address in use")
	}
}

func TestCloseTwiceAndUseAfter(t *testing.T) {
	a, _ := pair(t, nil)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a.SetPeers(map[uint64]Peer{2: {Address: "127.0.0.1:1"}})
	if len(a.Peers()) != 0 {
		t.Fatal("peers after Close")
	}
}

// A receiver that does not read fills the socket, so that a frame goes out in
// part; the writer must finish it before anything else.
func TestAStalledReceiverGetsWholeFramesInOrder(t *testing.T) {
	a, b := pair(t, nil)
	gate := make(chan struct{})
	wait := func(*pb.Message) { <-gate }
	b.hold.Store(&wait)
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<10/16)
	accepted := uint64(0)
	for {
		e, m := entries(5, 1, 2, accepted, data)
		if !a.Send(2, e, m) {
			break // the queue is full, and before it the socket
		}
		accepted++
	}
	if accepted < maxAppendCount {
		t.Fatalf("only %d appends were taken", accepted)
	}
	close(gate)
	for i := range accepted {
		got := await(t, b.messages, "append")
		if got.message.GetIndex() != i || !bytes.Equal(got.message.GetEntries()[0].GetData(), data) {
			t.Fatalf("append %d came in place of %d", got.message.GetIndex(), i)
		}
	}
	e, m := entries(5, 1, 2, accepted, data)
	until(t, "room in the queue", func() bool { return a.Send(2, e, m) })
	if got := await(t, b.messages, "append"); got.message.GetIndex() != accepted {
		t.Fatalf("append %d came in place of %d", got.message.GetIndex(), accepted)
	}
}
