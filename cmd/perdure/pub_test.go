package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

func TestTally(t *testing.T) {
	ok := client.Receipt{Confirmed: true, Store: "s", ID: 7}
	lost := errors.Join(client.ErrOutcomeUnknown, errors.New("silence"))
	tl := &tally{}
	for i, err := range []error{nil, nil, lost, lost, client.ErrStoreFull, nil} {
		line := i + 1
		if i > 0 {
			line++ // line 2 was blank
		}
		tl.count(lineRange{line, line}, 1, ok, err)
	}
	in := &pubInput{name: "my file", lines: strings.NewReader(""), jsonl: true, flags: " --timeout 5s"}
	g := in.progress("default", tl)
	if g.Published != 5 || g.Confirmed != 3 || g.Unknown != 2 || g.Next != 4 || fmt.Sprint(g.UnknownLines) != "[4 to 5]" {
		t.Errorf("%+v", g)
	}
	var text strings.Builder
	g.print(&text)
	want := `  published 5 messages, confirmed 3: lines 1 to 3, 7
  unknown whether stored: lines 4 to 5
  not stored: line 6
  go on with: tail -n +4 FILE | perdure pub default --jsonl - --timeout 5s
  and leave out what is confirmed: line 7
  what is unknown may then be stored twice: another run is another publisher
`
	if text.String() != want {
		t.Errorf("says\n%s, want\n%s", text.String(), want)
	}
	bodies := &pubInput{bodies: []string{"one", "two words", "it's", "", "five", "six", "seven"}}
	if got, want := bodies.progress("e", tl).GoOn, `perdure pub e '' five six seven`; got != want {
		t.Errorf("says %s, want %s", got, want)
	}
	bodies.bodies[3], bodies.bodies = "it's", bodies.bodies[:4]
	if got, want := bodies.progress("an endpoint", tl).GoOn, `perdure pub 'an endpoint' 'it'\''s'`; got != want {
		t.Errorf("says %s, want %s", got, want)
	}
}

// pubRig is a server with a store, and a pub that reads what a test writes.
type pubRig struct {
	node   *fleet.Node
	stdin  *io.PipeWriter
	stop   context.CancelFunc // Ctrl-C
	ended  chan int
	stderr trigger
	sub    *client.Subscription
}

func newPubRig(t *testing.T, args ...string) *pubRig {
	t.Helper()
	ports, err := fleet.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := (&program{}).newFleet(t.TempDir(), ports)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Kill)
	c, err := client.Connect(t.Context(), f.Connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(c) })
	if _, err := c.Admin().ApplyRealm(t.Context(), []byte(defaultRealm(f.Nodes)), "the default realm"); err != nil {
		t.Fatal(err)
	}
	r := &pubRig{node: f.Nodes[0], ended: make(chan int, 1), stderr: trigger{text: "\n", do: func() {}}}
	if r.sub, err = c.Subscribe(t.Context(), "default", client.Durable("d")); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	t.Cleanup(r.stop)
	var stdin *io.PipeReader
	stdin, r.stdin = io.Pipe()
	args = append([]string{"pub", "default", "--connect", f.Connect()}, args...)
	go func() { r.ended <- run(ctx, args, stdin, io.Discard, &r.stderr, nil) }()
	return r
}

// publish writes lines, and returns when they are stored.
func (r *pubRig) publish(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(r.stdin, line+"\n"); err != nil {
			t.Fatal(err)
		}
		d, err := r.sub.Receive(t.Context())
		if err != nil || string(d.Body()) != line {
			t.Fatalf("%s: %v, want %s", d.Body(), err, line)
		}
	}
}

func (r *pubRig) end(t *testing.T, want ...string) {
	t.Helper()
	if code := <-r.ended; code != exitFailed {
		t.Errorf("ended with %d", code)
	}
	for _, text := range want {
		if !strings.Contains(r.stderr.String(), text) {
			t.Errorf("%q is not in\n%s", text, r.stderr.String())
		}
	}
}

func TestPubInterrupted(t *testing.T) {
	r := newPubRig(t)
	r.publish(t, "one", "two")
	r.stop()
	r.end(t, "perdure: interrupted (INTERRUPTED)\n  published 2 messages, confirmed 2: the first 2, lines 1 to 2\n",
		"  go on with: tail -n +3 FILE | perdure pub default --connect ")
}

func TestPubWithoutAnswer(t *testing.T) {
	r := newPubRig(t, "--timeout", "500ms")
	r.publish(t, "one", "two")
	if err := r.node.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(r.stdin, "three\n"); err != nil {
		t.Fatal(err)
	}
	r.end(t, "perdure: ", "  published ", "  go on with: tail -n +")
	t.Log(r.stderr.String())
}
