package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		err             error
		reason, message string
	}{
		{errors.New("plain"), "FAILED", "plain"},
		{&usageError{"perdure x", errors.New("bad")}, "USAGE", "bad"},
		{failuref("LOST", "2 lost"), "LOST", "2 lost"},
		{fmt.Errorf("client: subscribe: %w", &client.Error{Reason: "NO_SUCH_ENDPOINT", Message: "no endpoint"}), "NO_SUCH_ENDPOINT", "subscribe: no endpoint"},
		{errors.Join(client.ErrOutcomeUnknown, context.DeadlineExceeded), "OUTCOME_UNKNOWN", "the outcome is unknown; context deadline exceeded"},
		{fmt.Errorf("client: publisher to %q: %w", "x", fmt.Errorf("client: publish: %w", &client.Error{Reason: "STORE_FULL", Message: "store s: store s: it is full"})),
			"STORE_FULL", `publisher to "x": publish: store s: it is full`},
		{errors.Join(client.ErrOutcomeUnknown, fmt.Errorf("client: gave up (5s): %w", errors.New(`UNAVAILABLE: client: UNAVAILABLE: server h:1: connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`))),
			"OUTCOME_UNKNOWN", "the outcome is unknown; gave up (5s): server h:1: connection refused"},
		{context.DeadlineExceeded, "TIMEOUT", "context deadline exceeded"},
		{context.Canceled, "INTERRUPTED", "interrupted"},
		{fmt.Errorf("client: save cluster: %w: %w", context.Canceled, &client.Error{Reason: "NO_LEADER", Message: "nobody leads"}), "INTERRUPTED", "save cluster: context canceled: nobody leads"},
	} {
		if c := describe(tc.err); c.Reason != tc.reason || c.Message != tc.message {
			t.Errorf("%v: %s %q, want %s %q", tc.err, c.Reason, c.Message, tc.reason, tc.message)
		}
	}
}

// TestOutputIsLost: who prints to a full disk has not printed.
func TestOutputIsLost(t *testing.T) {
	full, disk := io.Pipe()
	if err := full.CloseWithError(errors.New("no space left")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.json")
	if err := os.WriteFile(file, []byte(`{"scenario": "publish", "msgs_per_s": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"bench", "compare", file, file}, {"version"}, {"bench", "--help"}} {
		var errs strings.Builder
		if code := run(t.Context(), args, strings.NewReader(""), disk, &errs, nil); code != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%q: ended with %d: %s", args, code, &errs)
		}
	}
}

func TestWhyNoLeader(t *testing.T) {
	state := func(states ...string) (s devState) {
		for i, is := range states {
			s.Servers = append(s.Servers, devServer{Name: fmt.Sprintf("s%d", i+1), State: is})
		}
		return s
	}
	for _, tc := range []struct {
		state devState
		want  string
	}{
		{state("running", "stopped", "running"), "perdure status shows"},
		{state("running", "stopped", "paused"), "2 of 3 servers do not run, and to lead takes a majority: perdure dev restart s2"},
	} {
		if got := whyNoLeader(tc.state); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%v: %q, want %q", tc.state, got, tc.want)
		}
	}
}

// TestRateNotReached: times of a rate that was not reached are not taken for it.
func TestRateNotReached(t *testing.T) {
	for reached, want := range map[float64]string{
		0.2: "perdure: rate not reached: 1,000 of 5,000 messages a second were consumed", 0.99: "",
	} {
		var out, errs strings.Builder
		s := &bench.Summary{Runs: 1, Figures: bench.Figures{
			Scenario: "latency", MsgsPerSec: 1000, Rate: 5000, Interested: true, More: map[string]float64{bench.RateReached: reached},
		}}
		if err := (&program{stdout: &out, stderr: &errs}).printBench(&benchOptions{}, []*bench.Summary{s}); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(errs.String(), want) || want == "" && errs.Len() > 0 {
			t.Errorf("%v of it: %q, want %q", reached, &errs, want)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -12: "-12"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) is %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) is %s, want %s", n, got, want)
		}
	}
}

func TestLinesKeepTheirBytes(t *testing.T) {
	in := &pubInput{name: "stdin", lines: strings.NewReader("one\r\n\nthree")}
	var got []string
	if err := in.each(t.Context(), func(_ int, m *message.Message) error { got = append(got, string(m.Body)); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := "one\r||three"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLineTooLong(t *testing.T) {
	in := &pubInput{name: "stdin", lines: io.MultiReader(strings.NewReader("short\n"), strings.NewReader(strings.Repeat("x", message.HardMaxMessageSize+1)))}
	sent := 0
	err := in.each(t.Context(), func(int, *message.Message) error { sent++; return nil })
	if err == nil || !strings.HasPrefix(err.Error(), "stdin:2: the line is longer") || describe(err).Reason != "MESSAGE_TOO_LARGE" || sent != 1 {
		t.Errorf("%v after %d messages", err, sent)
	}
}

func TestPacerDoesNotCatchUp(t *testing.T) {
	const interval = time.Millisecond
	p := pacer{interval: interval, next: time.Now().Add(-time.Hour)}
	began := time.Now()
	for range 100 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// An hour late, it may be ahead by its slack and no more.
	if took := time.Since(began); took < 70*interval {
		t.Errorf("100 messages took %v", took)
	}
}

func TestDevDirectory(t *testing.T) {
	work, err := filepath.Abs("perdure-dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		environ []string
		given   string
		want    string
	}{
		{[]string{"HOME=/home/x"}, "/given", "/given"},
		{[]string{"HOME=/home/x"}, "", "/home/x/.cache/perdure/dev"},
		{[]string{"HOME=/home/x", "XDG_CACHE_HOME=/cache"}, "", "/cache/perdure/dev"},
		{nil, "", work},
	} {
		p := &program{environ: tc.environ}
		if got, err := p.devDirectory(tc.given); err != nil || got != tc.want {
			t.Errorf("%v %q: %s, %v, want %s", tc.environ, tc.given, got, err, tc.want)
		}
	}
}

// TestControlWithLongPath shows that the socket works where its directory's
// path is too long for one.
func TestControlWithLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	l, remove, err := listenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}()
	if path := l.Addr().String(); len(path) > maxSocketPath {
		t.Errorf("%s has %d bytes", path, len(path))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestStatusCells(t *testing.T) {
	var text strings.Builder
	printStatus(&text, viewOf(&client.Status{Realm: "r", Servers: []client.ServerStatus{{Name: "s2"}}, Clusters: []client.ClusterStatus{{
		Name: "c\x1b[31m", Leader: "s2", Services: []client.ServiceStatus{
			{Name: "one", Server: "s1", State: "unknown"},
			{Name: "two", Server: "s2", State: "follower", Applied: 1000, StateHash: "ab"},
		},
		Stores: []client.StoreStatus{{Name: "s", Durables: []client.DurableStatus{{Name: "d\n", Type: "shared", Subscribers: 3}}}},
	}}}))
	printStatus(&text, viewOf(&client.Status{}))
	for _, want := range []string{`cluster "c\x1b[31m"`, "led by s2 (down), term", "\nno clusters yet: perdure realm apply FILE\n", "DETAIL\n", "unknown   -        -", "1,000    0    ab          -", `"d\n"    shared  0        0        3            -`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	if err := (&program{stdout: fullDisk{}, stderr: io.Discard}).printChanges("f", "applied as", &outlook{plan: &client.Plan{}}, formatTable); err == nil {
		t.Error("a failed write is not noticed")
	}
}

// TestAgreed: files of one cluster agree where their state hashes do.
func TestAgreed(t *testing.T) {
	a, b := savedFile{StateHash: "a", Applied: 7}, savedFile{StateHash: "b"}
	if !agreed(nil) || !agreed([]savedFile{a, {StateHash: "a", Applied: 9}}) || agreed([]savedFile{a, a, b}) {
		t.Error("files agree that differ, or the other way round")
	}
}
