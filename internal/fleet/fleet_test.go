package fleet

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	f := New("perdure", []string{"PATH=/bin", "PERDURE_DATA=x", "HOME=/h"}, "d", []int{1, 2, 3, 4, 5, 6})
	if !slices.Equal(f.environ, []string{"PATH=/bin", "HOME=/h"}) {
		t.Errorf("environment %q", f.environ)
	}
	if f.core() != "s1=127.0.0.1:2,s2=127.0.0.1:5" || f.Connect() != "127.0.0.1:1,127.0.0.1:4" {
		t.Errorf("core %s, connect %s", f.core(), f.Connect())
	}
	n := f.Node("s2")
	if n == nil || n.Ops != "127.0.0.1:6" || n.Data != filepath.Join("d", "s2") || f.Node("s3") != nil {
		t.Errorf("%+v", n)
	}
	if f := New("perdure", nil, "d", nil); f.environ == nil {
		t.Error("servers would get the environment of this process")
	}
}

// Ports are given once, also while no server listens at them. Had a call only to
// find them free, these would meet.
func TestFreePortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		ports, err := FreePorts(7)
		if err != nil || len(ports) != 21 {
			t.Fatalf("%v, %v", ports, err)
		}
		for _, port := range ports {
			if seen[port] || port < lowestPort || port >= highestPort {
				t.Errorf("port %d in %v, after %v", port, ports, seen)
			}
			seen[port] = true
		}
	}
}

// TestStartedWrongly starts what is no server, and what is not there.
func TestStartedWrongly(t *testing.T) {
	other, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	f := New(other, os.Environ(), t.TempDir(), []int{1, 2, 3})
	n := f.Nodes[0]
	if err := n.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "s1 was never started") {
		t.Errorf("ready before it was started: %v", err)
	}
	ended := make(chan string, 1)
	n.Died = func(_ *Node, how string) { ended <- how }
	if err := f.Start(n); err != nil {
		t.Fatal(err)
	}
	if how := <-ended; how != "ended: exit status 1" {
		t.Errorf("it %s", how)
	}
	if err := f.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "s1 ended: exit status 1; its log ") {
		t.Errorf("ready: %v", err)
	}
	if state, pid := n.State(); state != Stopped || pid != 0 {
		t.Errorf("it is %s, process %d", state, pid)
	}
	for what, err := range map[string]error{"kill": n.Kill(), "pause": n.Pause()} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s: %v", what, err)
		}
	}
	n.Stop(t.Context()) // nothing to do
	nothing := New(filepath.Join(t.TempDir(), "nothing"), nil, t.TempDir(), []int{1, 2, 3})
	if err := nothing.StartAll(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing the perdure binary?") {
		t.Errorf("start of nothing: %v", err)
	}
}

func TestLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"a\nb\n": "b", "": "", "x\nperdure: no disk (FAILED)\n": "no disk", "perdure: half (of it\n": "half (of it",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := LastLine(path); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
	if got := LastLine(filepath.Join(t.TempDir(), "none")); !strings.Contains(got, "no such file") {
		t.Errorf("of no file: %q", got)
	}
}
