package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestServerEnviron(t *testing.T) {
	got := serverEnviron([]string{"PATH=/bin", "PERDURE_DATA=x", "HOME=/h"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/h"}) {
		t.Error(got)
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if len(slices.Compact(ports)) != 20 {
		t.Errorf("%v", ports)
	}
}

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
		{"another program", other, 1, "ended by itself"},
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

func TestServersByName(t *testing.T) {
	s := &Servers{processes: []*process{{name: "s1", client: "a:1"}, {name: "s2", client: "b:2"}}}
	if s.Addresses() != "a:1,b:2" || !slices.Equal(s.Names(), []string{"s1", "s2"}) {
		t.Errorf("%s, %v", s.Addresses(), s.Names())
	}
	for _, err := range []error{s.Kill("s3"), s.Start("s3"), s.Kill("s1")} {
		if err == nil {
			t.Error("a server that does not exist, or does not run, was killed or started")
		}
	}
	if u, err := s.Usage(); err != nil || u.Servers != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "never started") {
		t.Errorf("servers that do not run are ready: %v", err)
	}
}
