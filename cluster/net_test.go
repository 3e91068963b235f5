package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// tally is a machine that remembers every command, in one page for each.
type tally struct {
	applied  uint64
	commands []string
	changed  int // commands in pages already
	panicAt  string
	// panicUnlead makes Unlead panic.
	panicUnlead bool
	// panicDeadline makes Deadline panic, so many calls from now.
	panicDeadline int
	onDeadline    func()   // nil, or called by the next Deadline
	lead          []uint64 // terms
	unlead        int
	onLead        func()
}

func (t *tally) Apply(e cluster.Entry, out []string) ([]string, error) {
	t.applied = e.Index
	for _, c := range e.Commands {
		if string(c) == t.panicAt && t.panicAt != "" {
			panic("planted")
		}
		t.commands = append(t.commands, string(c))
		out = append(out, fmt.Sprintf("%d:%s", len(t.commands), c))
	}
	return out, nil
}

func (t *tally) Changed(yield func(key, value []byte)) {
	for ; t.changed < len(t.commands); t.changed++ {
		yield(binary.BigEndian.AppendUint64([]byte{'c'}, uint64(t.changed)), []byte(t.commands[t.changed]))
	}
}

func (t *tally) Dead(func(uint64))                { /* nothing is kept for a body */ }
func (t *tally) Live(cluster.Range, func(uint64)) { /* so nothing lives on */ }
func (t *tally) Reset()                           { t.applied, t.commands, t.changed = 0, nil, 0 }
func (t *tally) Loaded(applied uint64) error      { t.applied = applied; return nil }
func (t *tally) LoadPage(key, value []byte) error {
	if n := binary.BigEndian.Uint64(key[1:]); n != uint64(len(t.commands)) {
		return fmt.Errorf("page %d after %d", n, len(t.commands))
	}
	t.commands = append(t.commands, string(value))
	t.changed = len(t.commands)
	return nil
}

func (t *tally) Hash() uint64 {
	h := uint64(14695981039346656037)
	for _, c := range t.commands {
		for _, b := range []byte(c + "\x00") {
			h = (h ^ uint64(b)) * 1099511628211
		}
	}
	return h
}

func (t *tally) Lead(term uint64, _ cluster.Now) {
	t.lead = append(t.lead, term)
	if t.onLead != nil {
		t.onLead()
	}
}
func (t *tally) Deadline() int64 {
	if t.panicDeadline--; t.panicDeadline == 0 {
		panic("planted in Deadline")
	}
	if f := t.onDeadline; f != nil {
		t.onDeadline = nil
		f()
	}
	return 0
}
func (t *tally) Settled(bool, cluster.Now)                             { /* nobody waits */ }
func (t *tally) Commands(dst [][]byte, _ bool, _ cluster.Now) [][]byte { return dst }

func (t *tally) Unlead() {
	t.unlead++
	if t.panicUnlead {
		panic("planted in Unlead")
	}
}

// network joins hosts in one process. What is cut is the flow that
// one host dials to another: it loses what is sent on it, and the answers.
type network struct {
	mu    sync.Mutex
	hosts map[uint64]*cluster.Host
	cut   map[[2]uint64]bool
	snaps int // sent
	sent  map[pb.MessageType]int
	alone bool // every message comes alone, else every other
	later bool // and not before the sender's turn is over
	wg    sync.WaitGroup
}

// wire is the network as one server sees it.
type wire struct {
	net  *network
	from uint64
}

func (n *network) receiver(from, to uint64) *cluster.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]uint64{from, to}] {
		return nil
	}
	return n.hosts[to]
}

func (n *network) isolate(server uint64, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.hosts {
		n.cut[[2]uint64{server, other}] = cut
		n.cut[[2]uint64{other, server}] = cut
	}
}

// blackhole cuts the flows that a server has dialled.
func (n *network) blackhole(server uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.hosts {
		n.cut[[2]uint64{server, other}] = true
	}
}

// blackholeTo cuts the flows that others have dialled to a server.
func (n *network) blackholeTo(server uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.hosts {
		n.cut[[2]uint64{other, server}] = true
	}
}

func (w wire) Send(server uint64, e cluster.Envelope, m *pb.Message) bool {
	h := w.net.receiver(w.from, server)
	if h == nil {
		return false
	}
	w.net.mu.Lock()
	w.net.sent[m.GetType()]++
	alone := w.net.alone || w.net.sent[m.GetType()]%2 == 0
	later := w.net.later
	w.net.mu.Unlock()
	received := proto.Clone(m).(*pb.Message)
	if later {
		w.net.wg.Add(1)
		time.AfterFunc(time.Microsecond, func() { // fake time: when nobody does anything
			defer w.net.wg.Done()
			h.Receive(w.from, e, received, alone)
		})
		return true
	}
	h.Receive(w.from, e, received, alone)
	return true
}

func (w wire) SendSnapshot(server uint64, e cluster.Envelope, m *pb.Message, body func(io.Writer) error, done func(error)) {
	w.net.mu.Lock()
	w.net.snaps++
	w.net.mu.Unlock()
	w.net.wg.Go(func() {
		var buf bytes.Buffer
		err := body(&buf)
		if h := w.net.receiver(w.from, server); err == nil && h != nil {
			err = h.ReceiveSnapshot(w.from, e, proto.Clone(m).(*pb.Message), &buf)
		} else if err == nil {
			err = errors.New("cut")
		}
		done(err)
	})
}

// trio is three servers with one group.
type trio struct {
	t         *testing.T
	net       *network
	hosts     [3]*cluster.Host
	groups    [3]*cluster.Group[string]
	machines  [3]*tally
	logs      [3]*clustertest.MemLog
	fails     chan error
	heartbeat int // ticks
	beat      time.Duration
}

func newTrio(t *testing.T) *trio { return newTrioWith(t, 2, 0) }

// newTrioWith returns a trio whose servers are to show in every beat that they
// live, as trio.live lets them; if it is 0 the group is never quiet.
func newTrioWith(t *testing.T, heartbeat int, beat time.Duration) *trio {
	c := &trio{t: t, heartbeat: heartbeat, beat: beat, net: &network{hosts: map[uint64]*cluster.Host{}, cut: map[[2]uint64]bool{}, sent: map[pb.MessageType]int{}}, fails: make(chan error, 3)}
	for i := range c.groups {
		c.hosts[i] = cluster.OpenHost(cluster.HostOptions{
			Transport: wire{c.net, uint64(i + 1)}, Server: uint64(i + 1), Incarnation: uint64(i + 1), Logger: slog.New(slog.DiscardHandler),
		})
		c.net.hosts[uint64(i+1)] = c.hosts[i]
		c.logs[i] = clustertest.NewMemLog(clustertest.Async, uint64(i+1), []uint64{1, 2, 3})
	}
	for i := range c.groups {
		c.start(i)
	}
	t.Cleanup(c.close)
	return c
}

func (c *trio) start(i int) { c.startOn(i, c.logs[i]) }

func (c *trio) startOn(i int, log cluster.Log) {
	c.machines[i] = &tally{}
	g, err := cluster.StartGroup(c.hosts[i], cluster.GroupConfig{
		Options: cluster.Options{
			Group: 7, ID: uint64(i + 1), Rank: i, Tick: 50 * time.Millisecond, HeartbeatTicks: c.heartbeat, ElectionTicks: 10, Beat: c.beat, Seed: uint64(i),
		},
		Name: "test", Members: []cluster.Member{{Replica: 1, Server: 1}, {Replica: 2, Server: 2}, {Replica: 3, Server: 3}},
		OnFail: func(err error) { c.fails <- err },
	}, log, c.machines[i], c.machines[i])
	if err != nil {
		c.t.Fatal(err)
	}
	c.groups[i] = g
}

func (c *trio) close() {
	for _, g := range c.groups {
		_ = g.Close() // tests look at errors themselves
	}
	c.net.wg.Wait()
	for _, h := range c.hosts {
		if err := h.Close(); err != nil {
			c.t.Error(err)
		}
	}
}
