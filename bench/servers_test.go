package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestServersThatDoNotStart: the reason is in the error, and no file is left.
func TestServersThatDoNotStart(t *testing.T) {
	other, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, binary string
		servers      int
		want         string
	}{
		{"no binary", filepath.Join(t.TempDir(), "nothing"), 3, "nothing the perdure binary?"},
		{"another program", other, 1, "ended: exit status 1"},
		{"too many", other, 9, "it must be 1 to 7"},
	} {
		dir := t.TempDir()
		_, err := StartServers(t.Context(), tc.binary, tc.servers, "async", ServerOptions{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("%s: %v left, %v", tc.name, left, err)
		}
	}
}

// TestServerThatDies: one that ends without Kill makes figures wrong, and that is
// said; one that Kill has ended does not.
func TestServerThatDies(t *testing.T) {
	run := func(words string) *Servers {
		t.Helper()
		binary := filepath.Join(t.TempDir(), "server")
		if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+words+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		s := newServers(binary, os.Environ(), t.TempDir(), []int{1, 2, 3})
		if err := s.Start("s1"); err != nil {
			t.Fatal(err)
		}
		return s
	}
	killed := run("exec cat /dev/zero")
	if err := killed.Kill("s1"); err != nil {
		t.Fatal(err)
	}
	if _, err := killed.Usage(); err != nil {
		t.Errorf("Kill is meant: %v", err)
	}
	died := run("echo no more; exit 3")
	r := newRun(t.Context(), Load{Usage: func() (u Usage, err error) {
		for err == nil || !strings.Contains(err.Error(), "did not end it") { // until the end of the process is known
			u, err = died.Usage()
		}
		return u, err
	}})
	defer r.close()
	r.noteMemory()
	if err := context.Cause(r.ctx); err == nil || !strings.Contains(err.Error(), "server s1 ended: exit status 3") || !strings.Contains(err.Error(), "no more") {
		t.Errorf("the run goes on: %v", err)
	}
}

func TestServersByName(t *testing.T) {
	s := newServers("perdure", nil, t.TempDir(), []int{1, 2, 3, 4, 5, 6})
	if s.Addresses() != "127.0.0.1:1,127.0.0.1:4" || !slices.Equal(s.Names(), []string{"s1", "s2"}) {
		t.Errorf("%s, %v", s.Addresses(), s.Names())
	}
	for _, err := range []error{s.Kill("s3"), s.Start("s3"), s.Kill("s1"), s.Pause("s1"), s.Resume("s3")} {
		if err == nil {
			t.Error("something was done to a server that does not exist, or does not run")
		}
	}
	if u, err := s.Usage(); err != nil || u.Servers != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "never started") {
		t.Errorf("servers that do not run are ready: %v", err)
	}
}
