package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// childEnv makes this test binary a server: its value is a Config as JSON. It
// prints its client address, then what it has allocated whenever it reads a
// line, and stops when its input ends.
const childEnv = "PERDURE_TEST_CHILD"

// profileEnv names a directory for profiles of the allocations of every server:
//
//	PERDURE_TEST_PROFILE=/tmp go test ./server -run WholePath -v
//	go tool pprof -sample_index=alloc_objects -base /tmp/s1.0.pprof /tmp/s1.1.pprof
const profileEnv = "PERDURE_TEST_PROFILE"

// allocated is what a process has allocated so far.
type allocated struct{ Mallocs, Bytes uint64 }

// beChild runs a server as a process of its own.
func beChild(setting string) error {
	var config Config
	if err := json.Unmarshal([]byte(setting), &config); err != nil {
		return err
	}
	if os.Getenv(profileEnv) != "" {
		runtime.MemProfileRate = 512
	}
	log, err := os.Create(config.Data + ".log")
	if err != nil {
		return err
	}
	s, err := Open(context.Background(), config, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(s.ClientAddr()); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for i := 0; in.Scan(); i++ {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if err := out.Encode(allocated{m.Mallocs, m.TotalAlloc}); err != nil {
			return err
		}
		if dir := os.Getenv(profileEnv); dir != "" {
			if err := profile(filepath.Join(dir, fmt.Sprintf("%s.%d.pprof", config.Name, i))); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.Close(context.Background()), log.Close())
}

// profile writes what was allocated so far, and where.
func profile(path string) error {
	runtime.GC() // completes the figures
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// child is a server in a process of its own.
type child struct {
	t     testing.TB
	name  string
	addr  string
	in    io.WriteCloser
	out   *json.Decoder
	conn  *grpc.ClientConn
	cmd   *exec.Cmd
	log   string
	first allocated
}

func startChild(t testing.TB, config Config) *child {
	t.Helper()
	setting, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, name: config.Name, log: config.Data + ".log", cmd: exec.CommandContext(t.Context(), os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(setting))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.out.Decode(&c.addr); err != nil {
		t.Fatal(err)
	}
	if c.conn, err = grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(perdurepb.Codec()))); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) stop() {
	if err := c.conn.Close(); err != nil {
		c.t.Error(err)
	}
	if err := c.in.Close(); err != nil {
		c.t.Error(err)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("server %s: %v", c.name, err)
	}
	if c.t.Failed() {
		if b, err := os.ReadFile(c.log); err == nil {
			c.t.Logf("log of server %s:\n%s", c.name, b)
		}
	}
}

func (c *child) allocated() (a allocated) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatal(err)
	}
	if err := c.out.Decode(&a); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// perBatch publishes batches, a few at a time on the way, and returns what each
// server allocated for one of them.
func perBatch(t testing.TB, servers []*child, lead *child, body, messages, batches int) map[string]float64 {
	t.Helper()
	texts := make([]string, messages)
	for i := range texts {
		texts[i] = strings.Repeat("x", body)
	}
	batch := bodies(texts...)
	n := &node{t: t, messages: perdurepb.NewMessagesClient(lead.conn)}
	p := n.mustPublisher("flights")
	sequence, answered := uint64(0), uint64(0)
	run := func(count int) {
		for end := sequence + uint64(count); answered < end; {
			for ; sequence < end && sequence-answered < 8; sequence++ {
				p.send(sequence+1, 1, batch)
			}
			if o := p.outcome(); o.Error != nil {
				t.Fatal(o.Error)
			}
			answered++
		}
	}
	run(batches / 4)
	for _, s := range servers {
		s.first = s.allocated()
	}
	run(batches)
	out := map[string]float64{}
	for _, s := range servers {
		a := s.allocated()
		role := "follower " + s.name
		if s == lead {
			role = "leader"
		}
		out[role] = float64(a.Mallocs-s.first.Mallocs) / float64(batches)
		t.Logf("%d messages of %d bytes: %s: %.1f allocations, %.0f bytes a batch of %d bytes", messages, body, role,
			out[role], float64(a.Bytes-s.first.Bytes)/float64(batches), len(batch))
	}
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_ = p.end() // io.EOF
	return out
}

// Whole-path allocations of a batch, by real servers: what the leader and the
// followers allocate from the client's frame to the outcome. Batches of equal
// bytes cost the same however many messages are in them. Most of what is counted
// is Raft's own messages, for however many batches come together: the limits
// leave room for machines on which fewer do.
func TestWholePathAllocations(t *testing.T) {
	addrs := freeAddresses(t, 3)
	core := fmt.Sprintf("s1=%s,s2=%s,s3=%s", addrs[0], addrs[1], addrs[2])
	var servers []*child
	for i, addr := range addrs {
		config := single(t)
		config.Name, config.Core, config.ListenPeer = fmt.Sprintf("s%d", i+1), core, addr
		config.Data = filepath.Join(t.TempDir(), config.Name)
		s := startChild(t, config)
		defer s.stop()
		servers = append(servers, s)
	}
	n := &node{t: t}
	ctx := n.ctx()
	admin := perdurepb.NewAdminClient(servers[0].conn)
	for {
		_, err := admin.ApplyRealm(ctx, &perdurepb.ApplyRealmRequest{Document: []byte(replace(t, threeRealm, "profile: fast", "profile: default"))})
		if err == nil {
			break
		}
		wantReason(t, err, perdurepb.Reason_REASON_REALM_FORMING)
	}
	var lead *child
	for lead == nil {
		r, err := perdurepb.NewMessagesClient(servers[0].conn).Resolve(ctx, &perdurepb.ResolveRequest{Endpoint: "flights"})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			if s.addr == r.GetLeader().GetAddress() {
				lead = s
			}
		}
	}
	sizes := []struct{ messages, body int }{{500, 128}, {50, 1316}, {5000, 8}}
	if os.Getenv(profileEnv) != "" {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		for role, n := range perBatch(t, servers, lead, size.body, size.messages, allocBatches) {
			most := 40.0 * raceDetector
			if role == "leader" {
				most = 75 * raceDetector
			}
			if n > most {
				t.Errorf("%d messages of %d bytes: %s: %.1f allocations a batch, at most %.0f", size.messages, size.body, role, n, most)
			}
		}
	}
}
