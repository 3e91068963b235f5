package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/integration/harness"
)

// TestRefusedStarts starts servers that must not start. Each says what is wrong,
// where, and what to do, and ends; the server beside them goes on undisturbed.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	f := harness.New(t, 1)
	f.StartAll()
	n := f.Nodes[0]
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Where not even root may write, which the tests may run as.
	sealed := "/dev/fd"
	if runtime.GOOS == "linux" {
		sealed = "/proc/self"
	}
	free := harness.FreeAddresses(t, 3)
	// flags are those of a server that would start, with some replaced.
	flags := func(replace ...string) []string {
		args := []string{"--name", "s1", "--data", filepath.Join(dir, "data"), "--core", "s1=" + free[1],
			"--listen-client", free[0], "--listen-peer", free[1], "--listen-ops", free[2]}
		return append(args, replace...) // of a flag that comes twice the last counts
	}
	for _, tc := range []struct {
		name    string
		environ []string
		args    []string
		code    int
		says    []string
	}{
		{"a directory that a process has", nil, flags("--data", n.Data), harness.ExitFailure, []string{n.Data, "another process"}},
		{"a port in use for clients", nil, flags("--listen-client", n.Client), harness.ExitFailure, []string{"listen_client", n.Client, "stop what uses the port"}},
		{"a port in use for servers", nil, flags("--listen-peer", n.Peer, "--advertise-peer", free[1]), harness.ExitFailure, []string{"listen_peer", n.Peer}},
		{"a port in use for operators", nil, flags("--listen-ops", n.Ops), harness.ExitFailure, []string{"listen_ops", n.Ops}},
		{"a directory in a file", nil, flags("--data", filepath.Join(write("file", ""), "data")), harness.ExitFailure, []string{"data", "not a directory", "another --data"}},
		{"a file as a directory", nil, flags("--data", write("plain", "")), harness.ExitFailure, []string{"data", "plain"}},
		{"a directory that cannot be written", nil, flags("--data", sealed), harness.ExitFailure, []string{sealed, "data", "another --data"}},
		{"a directory that cannot be made", nil, flags("--data", sealed+"/data"), harness.ExitFailure, []string{sealed, "cannot create"}},
		{"a parent that does not exist", nil, flags("--data", filepath.Join(dir, "no", "data")), harness.ExitFailure, []string{"create its parent"}},
		{"open to other machines", nil, flags("--listen-client", "0.0.0.0:0"), harness.ExitUsage, []string{"--listen-client", "0.0.0.0:0", "--insecure"}},
		{"a name for an address", nil, flags("--listen-ops", "somewhere"), harness.ExitUsage, []string{"--listen-ops", "HOST:PORT"}},
		{"a mistyped key", nil, flags("--config", write("typo.yaml", "listen_clint: 127.0.0.1:7400\n")), harness.ExitUsage, []string{"typo.yaml", `"listen_clint"`, `did you mean "listen_client"`}},
		{"a key of nothing", nil, flags("--config", write("other.yaml", "colour: blue\n")), harness.ExitUsage, []string{"other.yaml", `"colour"`}},
		{"a file that is no YAML", nil, flags("--config", write("bad.yaml", "name: [s1\n")), harness.ExitUsage, []string{"bad.yaml"}},
		{"a file that does not exist", nil, flags("--config", filepath.Join(dir, "none.yaml")), harness.ExitUsage, []string{"none.yaml", "does not exist"}},
		{"a mistyped variable", []string{"PERDURE_LISTEN_CLINT=127.0.0.1:7400"}, flags(), harness.ExitUsage, []string{"PERDURE_LISTEN_CLINT", `did you mean "PERDURE_LISTEN_CLIENT"`}},
		{"a flag that there is not", nil, flags("--colour", "blue"), harness.ExitUsage, []string{"--colour"}},
		{"an even core", nil, flags("--core", "s1=127.0.0.1:1,s2=127.0.0.1:2"), harness.ExitUsage, []string{"core", "2 servers"}},
		{"a core server twice", nil, flags("--core", "s1=127.0.0.1:1,s1=127.0.0.1:2,s3=127.0.0.1:3"), harness.ExitUsage, []string{"core", "named twice"}},
		{"a reserved name", nil, flags("--name", "_s1"), harness.ExitUsage, []string{"name", "_"}},
		{"three mistakes at once", nil, flags("--name", "", "--core", "", "--log-level", "loud"), harness.ExitUsage, []string{"--name:", "--core:", "--log-level:"}},
	} {
		code, said := harness.Exec(t, tc.environ, tc.args...)
		if code != tc.code {
			t.Errorf("%s: exit code %d, want %d", tc.name, code, tc.code)
		}
		for _, want := range tc.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: no word of %q in:\n%s", tc.name, want, said)
			}
		}
		if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
			t.Errorf("%s: it panicked:\n%s", tc.name, said)
		}
	}
	if err := n.Readyz(within(t, 5*time.Second)); err != nil {
		t.Errorf("the server beside: %v", err)
	}
}

// TestAnotherServersDirectory gives a server the directory of another server.
func TestAnotherServersDirectory(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	s2, s3 := f.Node("s2"), f.Node("s3")
	s3.Kill()
	s2.Kill()
	args := append(s2.Args(), "--data", s3.Data)
	code, said := harness.Exec(t, nil, args...)
	if code != harness.ExitFailure || !strings.Contains(said, `belongs to server "s3"`) {
		t.Errorf("s2 on the directory of s3: exit code %d:\n%s", code, said)
	}
	s2.Start()
	s3.Start()
	s2.Ready()
	s3.Ready()
}

// TestForeignRealm gives a server the directory of a server of the same name in
// another realm: it must not speak with the servers of this one, which go on.
func TestForeignRealm(t *testing.T) {
	t.Parallel()
	other := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	for _, n := range other.Nodes {
		n.Kill()
	}
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	s3 := f.Node("s3")
	s3.Kill()
	own := s3.Data
	s3.Data = other.Node("s3").Data
	s3.Start()
	harness.Await(t, 20*time.Second, "the servers to refuse each other for their realms", func(ctx context.Context) error {
		if err := s3.Readyz(ctx); err == nil {
			return fmt.Errorf("s3 is ready with the data of another realm")
		}
		for _, n := range f.Nodes {
			if !strings.Contains(strings.ToLower(n.LogText()), "another realm") {
				return fmt.Errorf("the log of %s does not say so", n.Name)
			}
		}
		return nil
	})
	h.AwaitProgress(30 * time.Second)
	s3.Kill()
	s3.Data = own
	s3.Start()
	s3.Ready()
	h.Finish()
	f.AwaitIdentical("main")
}

// TestCoreListsThatDiffer starts a server with another list of core servers than
// the others have: no realm forms, and each says what it waits for.
func TestCoreListsThatDiffer(t *testing.T) {
	t.Parallel()
	f := harness.New(t, 3)
	elsewhere := harness.FreeAddresses(t, 1)[0]
	f.Node("s1").Start()
	f.Node("s2").Start()
	s3 := f.Node("s3")
	s3.StartWith("--core", strings.Replace(f.Core(), f.Node("s2").Peer, elsewhere, 1))
	harness.Await(t, 20*time.Second, "a server to say that the lists differ", func(ctx context.Context) error {
		err := f.Node("s1").Readyz(ctx)
		if err == nil {
			t.Fatal("a realm formed although the lists differ")
		}
		if !strings.Contains(err.Error(), "agree on the list") || !strings.Contains(err.Error(), elsewhere) {
			return err
		}
		return nil
	})
	s3.Kill()
	s3.Start()
	for _, n := range f.Nodes {
		n.Ready()
	}
}
