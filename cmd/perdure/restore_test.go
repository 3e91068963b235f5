package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/wholefile"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server"
	"github.com/perdure/perdure/store/statefile"
)

const twoClusters = `
realm: two
clusters:
  - name: alpha
    durability: async
    services: [{name: a-1, server: s1}]
    stores: [{name: one, durables: [{name: keep, type: standard}]}]
  - name: "beta / ß"
    durability: memory
    services: [{name: b-1, server: s1}]
    stores: [{name: two, durables: [{name: keep, type: shared}]}]
endpoints:
  - {name: one, store: one, default_durable: keep}
  - {name: two, store: two, default_durable: keep}
`

// oneServer is a server without a realm definition, and a client of it.
type oneServer struct {
	t *testing.T
	*client.Client
	address string
}

func newServer(t *testing.T) *oneServer {
	t.Helper()
	s, err := server.Open(t.Context(), server.Config{
		Name: "s1", Data: filepath.Join(t.TempDir(), "s1"), Core: "s1=127.0.0.1:1",
		ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", ListenOps: "127.0.0.1:0",
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := &oneServer{t: t, address: s.ClientAddr()}
	if o.Client, err = client.Connect(t.Context(), o.address, client.WithRetry(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeClient(o.Client)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *oneServer) apply(document string) {
	o.t.Helper()
	if _, err := o.Admin().ApplyRealm(o.t.Context(), []byte(document), "test.yaml"); err != nil {
		o.t.Fatal(err)
	}
}

func (o *oneServer) publish(endpoint string, n int) {
	o.t.Helper()
	p, err := o.Publisher(o.t.Context(), endpoint)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := range n {
		if _, err := p.Publish(o.t.Context(), &message.Message{Body: []byte{byte(i)}}); err != nil {
			o.t.Fatal(err)
		}
	}
	if err := p.Close(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// run runs a command against the server.
func (o *oneServer) run(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = run(o.t.Context(), append(args, "--connect", o.address), strings.NewReader(""), &b, &b, nil)
	return code, b.String()
}

// want checks what the stores hold, and whether the clusters are suspended.
func (o *oneServer) want(suspended bool, alpha, beta uint64) {
	o.t.Helper()
	s, err := o.Admin().Status(o.t.Context())
	if err != nil || len(s.Clusters) != 2 {
		o.t.Fatalf("%+v, %v", s, err)
	}
	for i, want := range []uint64{alpha, beta} {
		if c := s.Clusters[i]; c.Suspended != suspended || c.Stores[0].Messages != want {
			o.t.Errorf("cluster %s, suspended %v, has %d messages, want %v and %d", c.Name, c.Suspended, c.Stores[0].Messages, suspended, want)
		}
	}
}

// What was copied comes back on servers that have nothing, after a restoration was
// interrupted as well, and nowhere else.
func TestRestore(t *testing.T) {
	t.Parallel()
	old := newServer(t)
	old.apply(twoClusters)
	old.publish("one", 3)
	old.publish("two", 5)
	dir := filepath.Join(t.TempDir(), "copy")
	if code, out := old.run("backup", "--all", dir); code != 0 {
		t.Fatalf("backup ends with %d: %s", code, out)
	}
	old.want(false, 3, 5)
	live := func() {
		t.Helper()
		want := "perdure cluster suspend alpha and perdure cluster load alpha " + filepath.Join(dir, "alpha.state") + " --replace (NOT_EMPTY)"
		if code, out := old.run("restore", dir); code != 1 || !strings.Contains(out, "nothing is loaded") || !strings.Contains(out, want) {
			t.Errorf("over live data: %d: %s", code, out)
		}
	}
	live()
	for _, verb := range []string{"suspend", "resume"} {
		if code, out := old.run("cluster", verb, "alpha"); code != 0 {
			t.Fatal(out)
		}
		live()
	}
	old.want(false, 3, 5)

	fresh := newServer(t)
	r := &restoration{p: &program{stderr: t.Output()}, client: fresh.Client}
	var err error
	if r.dir, err = os.OpenRoot(dir); err != nil {
		t.Fatal(err)
	}
	defer r.dir.Close()
	if r.set, err = readSet(r.dir); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{
		r.check, r.define, func(ctx context.Context) error {
			_, err := r.load(ctx, &r.set.Clusters[0], false)
			return err
		},
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // to its end, and once more
		if code, out := fresh.run("restore", dir); code != 0 {
			t.Fatalf("restore ends with %d: %s", code, out)
		}
		fresh.want(false, 3, 5)
	}
	for _, c := range r.set.Clusters {
		again := filepath.Join(t.TempDir(), "again.state")
		if code, out := fresh.run("cluster", "backup", c.Name, "--output", again); code != 0 {
			t.Fatalf("backup of %s: %s", c.Name, out)
		}
		b, err := os.ReadFile(again)
		if err != nil {
			t.Fatal(err)
		}
		was, err := r.dir.ReadFile(c.setFile.Name)
		if err != nil {
			t.Fatal(err)
		}
		// Sessions have been idle for longer since.
		if want, have := storesOf(t, was), storesOf(t, b); !reflect.DeepEqual(have, want) {
			t.Errorf("cluster %s comes back with %+v, had %+v", c.Name, have, want)
		}
	}
	for _, name := range []string{"alpha", "beta / ß"} {
		if code, out := fresh.run("cluster", "suspend", name); code != 0 {
			t.Fatalf("suspend: %s", out)
		}
	}
	if code, out := fresh.run("restore", dir); code != 0 {
		t.Errorf("what is there, and suspended since: %d: %s", code, out)
	}
	fresh.want(true, 3, 5)
	for _, name := range []string{"alpha", "beta / ß"} {
		if code, out := fresh.run("cluster", "resume", name); code != 0 {
			t.Fatalf("resume: %s", out)
		}
	}
	fresh.publish("one", 1)
	if code, out := fresh.run("restore", dir); code != 1 || !strings.Contains(out, "(NOT_EMPTY)") {
		t.Errorf("what was used since: %d: %s", code, out)
	}
	fresh.want(false, 4, 5)
}

// A command that was killed between loading and resuming is repeated; what an operator
// has suspended with something else in it is not touched.
func TestClusterRestoreRepeated(t *testing.T) {
	t.Parallel()
	old := newServer(t)
	old.apply(twoClusters)
	old.publish("one", 3)
	file := filepath.Join(t.TempDir(), "alpha.state")
	if code, out := old.run("cluster", "backup", "alpha", "--output", file); code != 0 {
		t.Fatalf("backup: %s", out)
	}
	if code, out := old.run("cluster", "suspend", "alpha"); code != 0 {
		t.Fatalf("suspend: %s", out)
	}
	if code, out := old.run("cluster", "restore", "alpha", file); code != 1 || !strings.Contains(out, "(NOT_EMPTY)") {
		t.Errorf("into what was used: %d: %s", code, out)
	}
	fresh := newServer(t)
	fresh.apply(twoClusters)
	for range 2 {
		if code, out := fresh.run("cluster", "load", "alpha", file); code != 0 {
			t.Fatalf("load ends with %d: %s", code, out)
		}
	}
	if code, out := fresh.run("cluster", "restore", "alpha", file); code != 0 || !strings.Contains(out, "loaded, and resumed") {
		t.Errorf("restore ends with %d: %s", code, out)
	}
	fresh.want(false, 3, 0)
}

// A backup that was interrupted, however early, is begun again in the same directory; two
// do not write there at a time.
func TestBackupIntoADirectory(t *testing.T) {
	t.Parallel()
	o := newServer(t)
	o.apply(twoClusters)
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, ".realm.yaml.new"), []byte("real"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	other, err := wholefile.Create(dir, setList)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := o.run("backup", "--all", path); code != 1 || !strings.Contains(out, "written already") {
		t.Errorf("beside another: %d: %s", code, out)
	}
	if err := other.Discard(); err != nil {
		t.Fatal(err)
	}
	if code, out := o.run("backup", "--all", path); code != 0 {
		t.Errorf("after one that was interrupted: %d: %s", code, out)
	}
	if code, out := newServer(t).run("restore", path); code != 0 {
		t.Errorf("restore: %d: %s", code, out)
	}
}

// storesOf returns what a state file says of its stores.
func storesOf(t *testing.T, file []byte) []statefile.StoreSummary {
	t.Helper()
	m, _, err := statefile.Verify(bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.Stores
}

// Nothing is changed where something else is.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	old := newServer(t)
	old.apply(twoClusters)
	old.publish("one", 3)
	dir := filepath.Join(t.TempDir(), "copy")
	if code, out := old.run("backup", "--all", dir); code != 0 {
		t.Fatalf("backup ends with %d: %s", code, out)
	}

	other := newServer(t)
	other.apply(strings.Replace(twoClusters, "realm: two", "realm: three", 1))
	if code, out := other.run("restore", dir); code != 1 || !strings.Contains(out, "another definition") || !strings.Contains(out, "(DIFFERENT)") {
		t.Errorf("another definition: %d: %s", code, out)
	}
	other.want(false, 0, 0)

	used := newServer(t)
	used.apply(twoClusters)
	used.publish("two", 1)
	if code, out := used.run("restore", dir); code != 1 || !strings.Contains(out, "nothing is loaded") {
		t.Errorf("the second cluster is used: %d: %s", code, out)
	}
	used.want(false, 0, 1)

	empty := newServer(t)
	if err := os.WriteFile(filepath.Join(dir, "realm.yaml"), []byte("realm: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := empty.run("restore", dir); code != 1 || !strings.Contains(out, "(DIFFERENT)") {
		t.Errorf("another file: %d: %s", code, out)
	}
	if r, err := empty.Admin().GetRealm(t.Context(), 0); err == nil {
		t.Errorf("there is revision %d", r.Revision)
	}
}
