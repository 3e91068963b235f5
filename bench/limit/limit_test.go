package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/program"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// TestMain lets the test's own program be the servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveWord {
		must(serve(os.Args[2:]))
		return
	}
	os.Exit(m.Run())
}

func TestMajority(t *testing.T) {
	for _, tc := range []struct {
		has  []uint64
		want uint64
	}{
		{[]uint64{7}, 7},
		{[]uint64{9, 0, 0}, 0},
		{[]uint64{0, 4, 5}, 4},
		{[]uint64{9, 3, 5}, 5},
		{[]uint64{9, 3, 5, 4}, 4},
	} {
		if got := majority(tc.has); got != tc.want {
			t.Errorf("majority of %v: %d, want %d", tc.has, got, tc.want)
		}
	}
}

func TestFrames(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		defer a.Close()
		_ = writeFrame(a, 7, []byte("seven")) // the reader notices
		_ = writeFrame(a, 8, nil)
		_, _ = a.Write([]byte{255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0})
	}()
	r := bufio.NewReader(b)
	for _, want := range []struct {
		number uint64
		batch  string
	}{{7, "seven"}, {8, ""}} {
		number, batch, err := readFrame(r)
		if err != nil || number != want.number || string(batch) != want.batch {
			t.Errorf("frame %d %q, %v; want %v", number, batch, err, want)
		}
	}
	if _, _, err := readFrame(r); err == nil {
		t.Error("a frame of 4 GiB is accepted")
	}
}

func TestSegmentRecycles(t *testing.T) {
	path := t.TempDir() + "/segment"
	s, err := openSegment(path, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	big := bytes.Repeat([]byte("x"), 700<<10)
	if err := s.append([]item{{batch: big}, {batch: big}, {batch: []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	info, err := s.file.Stat()
	if err != nil || info.Size() != 1<<20 || s.next != int64(len(big))+1 {
		t.Errorf("%v, %v, next at %d: want a file that is written over from its start", info.Size(), err, s.next)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"--quick", "-o", "json", "--only", "publish/128/sync"}, io.Discard)
	if err != nil || !o.JSON || o.Runs != 3 || o.Time != 2*time.Second || o.Warm != 800*time.Millisecond {
		t.Errorf("--quick: %+v, %v", o, err)
	}
	if n := len(o.loads("sync")); n != 1 || len(o.loads("async")) != 0 {
		t.Errorf("--only publish/128/sync selects %d loads of sync", n)
	}
	if o, err = parse([]string{"--quick", "--runs", "7", "--seconds", "10"}, io.Discard); err != nil ||
		o.Runs != 7 || o.Time != 10*time.Second || o.Warm != 2*time.Second {
		t.Errorf("--quick --runs 7 --seconds 10: %+v, %v", o, err)
	}
	if n := len(o.loads("async")); n != len(scenarios)*len(sizes) {
		t.Errorf("%d loads unless told otherwise", n)
	}
	for _, bad := range [][]string{{"-o", "xml"}, {"--only", "drain"}, {"--runs", "0"}, {"--seconds", "-1"}, {"--window", "9999"}, {"json"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// TestBothSides runs the naked pipeline and perdure, each with processes of its
// own, for a moment.
func TestBothSides(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary, err := ours.Open(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	o := options{
		Options:    program.Options{Runs: 1, Warm: 20 * time.Millisecond, Time: 200 * time.Millisecond, Progress: io.Discard},
		publishers: 2, batch: 4096, window: 4, segment: 1 << 20,
	}
	if o.Only, err = ratio.ParseSelection("128", []string{"128"}); err != nil {
		t.Fatal(err)
	}
	rows, err := o.compare(ctx, perdure{binary}, "sync", o.loads("sync"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ratio.WriteJSON(&out, rows); err != nil {
		t.Fatal(err)
	}
	var back []ratio.Row
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back) != 4 {
		t.Errorf("%v: want four rows, not\n%s", err, &out)
	}
}
