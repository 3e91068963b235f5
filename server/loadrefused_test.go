package server

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/store/statefile"
)

// nothingLoaded checks that a refused load has left nothing.
func (n *node) nothingLoaded() {
	n.t.Helper()
	h := n.reconciler.all()[0]
	if err := h.group.Do(n.ctx(), func(cluster.Now) {
		if load, _ := h.service.Load(); load != 0 {
			n.t.Errorf("load %016x is under way", load)
		}
	}); err != nil {
		n.t.Fatal(err)
	}
}

func TestLoadBadFiles(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	other := start(t, testRealm)
	h := other.reconciler.all()[0]
	last := func() uint64 {
		last, err := h.group.Log().LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		return last
	}
	before := last()
	flipped := bytes.Clone(file)
	flipped[len(file)/2] ^= 1
	later := bytes.Clone(file)
	later[8] = 99
	for _, tc := range []struct {
		what string
		file []byte
		want perdurepb.Reason
		says string
	}{
		{"nothing", nil, perdurepb.Reason_REASON_STATE_TRUNCATED, "byte 0"},
		{"all but the last byte", file[:len(file)-1], perdurepb.Reason_REASON_STATE_TRUNCATED, "trailer"},
		{"a bit is another", flipped, perdurepb.Reason_REASON_STATE_ALTERED, "byte "},
		{"something follows", slices.Concat(file, []byte("x")), perdurepb.Reason_REASON_STATE_ALTERED, fmt.Sprintf("byte %d", len(file))},
		{"another kind of file", []byte("#!/bin/sh\nexit 1\n"), perdurepb.Reason_REASON_STATE_FOREIGN, "byte 0"},
		{"another version", later, perdurepb.Reason_REASON_STATE_NEWER, "version 99"},
	} {
		_, err := other.load(&perdurepb.LoadOpen{}, tc.file)
		if e := wantReason(t, err, tc.want); !strings.Contains(e.Message, tc.says) {
			t.Errorf("%s: %s", tc.what, e.Message)
		}
	}
	other.nothingLoaded()
	if after := last(); after != before || h.suspended.Load() {
		t.Errorf("%d entries were replicated, suspended %v", after-before, h.suspended.Load())
	}

	// What is wrong the second time only ends the load.
	l := other.loading(&perdurepb.LoadOpen{Cluster: "main"})
	l.file(file)
	if m, err := l.next(); err != nil || m.Verified == nil {
		t.Fatalf("%v (%v)", m, err)
	}
	l.file(flipped)
	_, err := l.next()
	wantReason(t, err, perdurepb.Reason_REASON_STATE_ALTERED)
	other.nothingLoaded()
	l = other.loading(&perdurepb.LoadOpen{Cluster: "main"})
	l.file(file)
	if m, err := l.next(); err != nil || m.Verified == nil {
		t.Fatalf("%v (%v)", m, err)
	}
	n.resume()
	n.suspend() // the same state, at another time
	another, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	l.file(another)
	_, err = l.next()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	other.nothingLoaded()
	if loaded, err := other.load(&perdurepb.LoadOpen{}, file); err != nil || loaded.Messages != 6 {
		t.Errorf("loaded %v (%v)", loaded, err)
	}
}

func TestLoadRefused(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, manifest := n.save(&perdurepb.SaveClusterRequest{})
	_, err := n.load(&perdurepb.LoadOpen{}, file)
	if e := wantReason(t, err, perdurepb.Reason_REASON_NOT_EMPTY); !strings.Contains(e.Message, "flights") || !strings.Contains(e.Message, "--replace") {
		t.Errorf("into a used store: %s", e.Message)
	}
	n.resume()
	for _, replace := range []bool{false, true} {
		_, err = n.load(&perdurepb.LoadOpen{Replace: replace, DryRun: true}, file)
		if e := reasonOf(t, err); replace && e.Reason != perdurepb.Reason_REASON_NOT_SUSPENDED || !replace && e.Reason != perdurepb.Reason_REASON_NOT_EMPTY {
			t.Errorf("replace %v: %v", replace, e)
		}
	}
	n.suspend()
	if loaded, err := n.load(&perdurepb.LoadOpen{Replace: true}, file); err != nil || loaded.StateHash != manifest.StateHash {
		t.Fatalf("loaded %v (%v)", loaded, err)
	}

	for _, tc := range []struct{ from, to, says string }{
		{"          - {name: audit, type: standard}\n", "          - {name: audit, type: shared}\n", `durable "audit"`},
		{`matcher: '{"origin":"LAS"}'`, `matcher: '{"origin":"JFK"}'`, `durable "vegas"`},
		{"          - {name: vegas, type: shared, matcher: '{\"origin\":\"LAS\"}'}\n", "", `durable "vegas"`},
	} {
		other := start(t, replace(t, testRealm, tc.from, tc.to))
		for _, dry := range []bool{true, false} {
			_, err := other.load(&perdurepb.LoadOpen{DryRun: dry}, file)
			if e := wantReason(t, err, perdurepb.Reason_REASON_LOAD_REFUSED); !strings.Contains(e.Message, tc.says) {
				t.Errorf("%s: %s", tc.to, e.Message)
			}
		}
		other.nothingLoaded()
		if other.reconciler.all()[0].suspended.Load() {
			t.Error("it is suspended")
		}
	}
	_, err = n.load(&perdurepb.LoadOpen{Replace: true}, crafted(t, statefile.Manifest{Cluster: "main", Time: time.Now().Add(24 * time.Hour).UnixNano()}, &statefile.Store{Name: "flights"}))
	if e := wantReason(t, err, perdurepb.Reason_REASON_LOAD_REFUSED); !strings.Contains(e.Message, "ahead of the clock") {
		t.Errorf("a state of tomorrow: %s", e.Message)
	}
	for what, first := range map[string]*perdurepb.LoadClusterRequest{"no open": {}, "a chunk": {Chunk: file}, "both": {Open: &perdurepb.LoadOpen{Cluster: "main"}, Chunk: file}} {
		stream, err := n.admin.LoadCluster(n.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if e := wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT); e.Message == "" {
			t.Error(what)
		}
	}
	l := n.loading(&perdurepb.LoadOpen{Cluster: "main"})
	l.send(&perdurepb.LoadClusterRequest{Open: &perdurepb.LoadOpen{Cluster: "main"}})
	_, err = l.next()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	l = n.loading(&perdurepb.LoadOpen{Cluster: "main"})
	l.send(&perdurepb.LoadClusterRequest{Chunk: file[:100]})
	if err := l.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err = l.next()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	_, err = n.load(&perdurepb.LoadOpen{Abort: true}, nil)
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_LOAD)
}

// crafted writes a file of records.
func crafted(t *testing.T, manifest statefile.Manifest, records ...statefile.Record) []byte {
	t.Helper()
	tally := statefile.NewTally(0)
	for _, r := range records {
		if err := tally.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	manifest.Summary = tally.Summary()
	var b bytes.Buffer
	w, err := statefile.NewWriter(&b, &manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A small file may grow large in memory: what is kept of it is bounded.
func TestLoadBounded(t *testing.T) {
	t.Parallel()
	records := []statefile.Record{&statefile.Store{Name: "flights"}}
	var members []string
	for i := range 60 {
		members = append(members, fmt.Sprintf(`"k%02d":"%s"`, i, strings.Repeat("x", 250)))
	}
	matcher := "{" + strings.Join(members, ",") + "}"
	for i := range maxMatchers/len(matcher) + 1 {
		records = append(records, &statefile.Durable{Name: fmt.Sprintf("d%05d", i), Kind: durable.KindShared, Matcher: matcher, Prefetch: 1, Dynamic: true, Marks: []byte{0}})
	}
	n := start(t, testRealm)
	_, err := n.load(&perdurepb.LoadOpen{}, crafted(t, statefile.Manifest{Cluster: "main"}, records...))
	if e := wantReason(t, err, perdurepb.Reason_REASON_LOAD_REFUSED); !strings.Contains(e.Message, "64 MiB") {
		t.Error(e.Message)
	}
	_, err = n.load(&perdurepb.LoadOpen{}, crafted(t, statefile.Manifest{Cluster: "main"}))
	if e := wantReason(t, err, perdurepb.Reason_REASON_LOAD_REFUSED); !strings.Contains(e.Message, "no stores") {
		t.Error(e.Message)
	}
	n.nothingLoaded()
}
