package harness

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
)

var keep = flag.String("keep", "", "directory that keeps the servers' data and logs of each test")

// Fleet is the servers of a realm on this machine: those that keep the realm,
// named s1, s2 and so on, and auxiliary ones.
type Fleet struct {
	Nodes []*Node

	t        testing.TB
	dir      string
	core     string
	tolerate []string // what errors in logs may say
}

// New lays out size servers; nothing runs yet. Whatever runs when the test ends
// is killed.
func New(t testing.TB, size int) *Fleet {
	t.Helper()
	dir := t.TempDir()
	if *keep != "" {
		var err error
		if dir, err = os.MkdirTemp(*keep, strings.ReplaceAll(t.Name(), "/", "-")+"-"); err != nil {
			t.Fatal(err)
		}
	}
	f := &Fleet{t: t, dir: dir}
	var core []string
	for i := range size {
		n := f.add(fmt.Sprintf("s%d", i+1))
		core = append(core, n.Name+"="+n.Peer)
	}
	f.core = strings.Join(core, ",")
	for _, n := range f.Nodes {
		n.core = f.core
	}
	t.Cleanup(f.end)
	return f
}

// add lays out one more server.
func (f *Fleet) add(name string) *Node {
	addrs := FreeAddresses(f.t, 3)
	n := &Node{
		Name: name, Client: addrs[0], Peer: addrs[1], Ops: addrs[2], core: f.core, t: f.t,
		Data: filepath.Join(f.dir, name), Log: filepath.Join(f.dir, name+".log"),
	}
	f.Nodes = append(f.Nodes, n)
	return n
}

// Auxiliary starts one more server, which does not keep the realm, and waits
// until it is ready. Clients are told of it by the others only.
func (f *Fleet) Auxiliary(name string) *Node {
	f.t.Helper()
	n := f.add(name)
	n.Start()
	n.Ready()
	return n
}

// Start starts size servers, waits until they are ready, and applies a realm
// definition.
func Start(t testing.TB, size int, definition string) *Fleet {
	t.Helper()
	f := New(t, size)
	f.StartAll()
	f.Apply(definition)
	return f
}

// StartAll starts all servers and waits until they are ready.
func (f *Fleet) StartAll() {
	f.t.Helper()
	for _, n := range f.Nodes {
		n.Start()
	}
	for _, n := range f.Nodes {
		n.Ready()
	}
}

// Core is the list of core servers, as every server is given it.
func (f *Fleet) Core() string { return f.core }

// Connect is what clients connect to.
func (f *Fleet) Connect() string {
	list := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		list[i] = n.Client
	}
	return strings.Join(list, ",")
}

// Node returns the server of that name.
func (f *Fleet) Node(name string) *Node {
	f.t.Helper()
	for _, n := range f.Nodes {
		if n.Name == name {
			return n
		}
	}
	f.t.Fatalf("no server %q", name)
	return nil
}

// Client connects a client, closed when the test ends.
func (f *Fleet) Client(opts ...client.Option) *client.Client {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, f.Connect(), opts...)
	if err != nil {
		f.t.Fatalf("connect: %v", err)
	}
	f.t.Cleanup(func() {
		// Servers may be dead by now: what is open is cut off.
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// Apply applies a realm definition and returns what changed.
func (f *Fleet) Apply(definition string) *client.Plan {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plan, err := f.Client().Admin().ApplyRealm(ctx, []byte(definition), "realm.yaml")
	if err != nil {
		f.t.Fatalf("apply: %v", err)
	}
	return plan
}

// Tolerate names texts that errors in the logs of servers may contain, because
// the test provokes them.
func (f *Fleet) Tolerate(texts ...string) { f.tolerate = append(f.tolerate, texts...) }

// end kills what runs, then looks at the logs.
func (f *Fleet) end() {
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(n.Kill)
	}
	wg.Wait()
	for _, n := range f.Nodes {
		for line := range strings.Lines(n.LogText()) {
			if f.alarming(line) {
				f.t.Errorf("log of %s: %s", n.Name, strings.TrimSpace(line))
				break
			}
		}
	}
	if !f.t.Failed() {
		return
	}
	for _, n := range f.Nodes {
		f.t.Logf("end of the log of %s:\n%s", n.Name, tail(n.LogText(), 40))
	}
}

func (f *Fleet) alarming(line string) bool {
	if !strings.Contains(line, "level=ERROR") && !strings.HasPrefix(line, "panic:") &&
		!strings.HasPrefix(line, "fatal error:") && !strings.Contains(line, "DATA RACE") {
		return false
	}
	for _, text := range f.tolerate {
		if strings.Contains(line, text) {
			return false
		}
	}
	return true
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// Ports are looked for below what systems give to connections that go out: a
// server that is started again must find its port free, and a client that dials
// a dead server must not be given that very port and meet itself.
const lowestPort, highestPort = 20_000, 32_000

// FreeAddresses returns n addresses on loopback that nobody uses now. Nobody else
// is likely to use them later, when a server is down: where all of 127.0.0.0/8 is
// loopback, they are not on the address that everybody uses.
func FreeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for tries := 0; len(addrs) < n; tries++ {
		host := "127.0.0.1"
		if runtime.GOOS == "linux" {
			host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
		}
		addr := fmt.Sprintf("%s:%d", host, lowestPort+rand.IntN(highestPort-lowestPort))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			addrs = append(addrs, addr)
			defer l.Close() // held until all are found, so that none comes twice
		} else if tries == 1000 {
			t.Fatalf("no free ports on loopback: %v", err)
		}
	}
	return addrs
}

// Await polls until check returns nil, and fails the test with the last error
// when that takes too long.
func Await(t testing.TB, limit time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err // not that the time is over, but what was missing
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s: %v", limit, what, last)
		case <-tick.C:
		}
	}
}

// Pause lets time pass: for the length of a fault, never as a guess of how long
// something takes.
func Pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
