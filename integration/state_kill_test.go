package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
)

// interrupted is a cluster that is suspended, saved, loaded, resumed and backed up,
// again and again, while a server is killed in the middle of each of these.
type interrupted struct {
	t      *testing.T
	f      *harness.Fleet
	state  []string                 // what the cluster has: see owed
	files  [2][]byte                // states to load in turn
	next   int                      // of files
	length map[string]time.Duration // of each command, when nobody is killed
	met    map[string]int           // what was found after kills
	kills  int
}

// TestKilledAnywhere kills a server, mostly the leader, or all, at random points of suspend,
// save, load, resume and backup. Afterwards the cluster has the state of before or of
// after, a file is there as a whole or not at all, and the command, repeated, does
// what it did not.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	definition := strings.Replace(harness.Definition(harness.Cluster{Name: "main"}),
		"durability: sync", "durability: sync\n    suspend_grace: 100ms", 1)
	x := &interrupted{t: t, f: harness.Start(t, 3, definition), length: map[string]time.Duration{}, met: map[string]int{}}
	for i := range x.files {
		if err := x.publish(2000 + 2000*i); err != nil {
			t.Fatal(err)
		}
		x.timed("suspend", x.suspend)
		x.timed("save", func(ctx context.Context, n *harness.Node) error { return x.save(ctx, n, i == 0, &x.files[i]) })
		x.timed("resume", x.resume)
	}
	x.state = owed(t, x.files[1])
	for x.kills < *kills {
		for _, command := range []func(){x.killSuspend, x.killSave, x.killLoad, x.killResume, x.killBackup} {
			if x.kills < *kills {
				command()
			}
		}
	}
	t.Logf("%d kills; afterwards there was: %v", x.kills, x.met)
	x.timed("resume", x.resume)
	x.is(x.state)
	x.drain()
	x.f.AwaitIdentical("main")
}

// timed runs a command, wherever the leader is, until it succeeds.
func (x *interrupted) timed(what string, do func(context.Context, *harness.Node) error) {
	x.t.Helper()
	ctx := within(x.t, time.Minute)
	x.f.Leader("main")
	began := time.Now()
	if err := x.f.Anywhere(ctx, do); err != nil {
		x.t.Fatalf("%s, after %d kills: %v", what, x.kills, err)
	}
	x.length[what] = time.Since(began)
}

// killed runs a command once, on the leader, and kills a server meanwhile, or all of
// them. When these run again it returns what the command came to.
func (x *interrupted) killed(what string, do func(context.Context, *harness.Node) error) error {
	x.t.Helper()
	x.kills++
	leader := x.f.Leader("main")
	victims := []*harness.Node{leader}
	switch rand.IntN(8) {
	case 0, 1:
		victims[0] = x.f.Nodes[rand.IntN(3)]
	case 2:
		victims = x.f.Nodes
	}
	done := make(chan error, 1)
	go func() { done <- do(within(x.t, time.Minute), leader) }()
	harness.Pause(rand.N(x.length[what]*5/4 + time.Millisecond)) // so that kills meet every state of it
	var wg sync.WaitGroup
	for _, n := range victims {
		wg.Go(n.Kill)
	}
	wg.Wait()
	err := <-done
	for _, n := range victims {
		n.Start()
	}
	for _, n := range x.f.Nodes {
		harness.Await(x.t, time.Minute, "server "+n.Name+" to be ready, perhaps but for the suspended cluster", func(ctx context.Context) error {
			err := n.Readyz(ctx)
			if err != nil && strings.Contains(err.Error(), "cluster main is suspended") && !strings.Contains(err.Error(), "\n") {
				return nil
			}
			return err
		})
	}
	if err != nil && !harness.Passing(err) {
		x.t.Fatalf("%s, kill %d: %v, which is not what a killed server is", what, x.kills, err)
	}
	return err
}

// found notes in which of its states the kill of a command left the cluster.
func (x *interrupted) found(what string, done bool) {
	x.met[what+map[bool]string{true: " done", false: " not done"}[done]]++
}

func (x *interrupted) suspend(ctx context.Context, n *harness.Node) error {
	_, err := x.f.Admin(n).SuspendCluster(ctx, &perdurepb.SuspendClusterRequest{Cluster: "main"})
	return err
}

func (x *interrupted) resume(ctx context.Context, n *harness.Node) error {
	_, err := x.f.Admin(n).ResumeCluster(ctx, &perdurepb.ResumeClusterRequest{Cluster: "main"})
	return err
}

// save saves the suspended cluster, into file unless the server is to keep it.
func (x *interrupted) save(ctx context.Context, n *harness.Node, keep bool, file *[]byte) error {
	var out bytes.Buffer
	_, err := x.f.Save(ctx, n, &perdurepb.SaveClusterRequest{Cluster: "main", ToServer: keep}, &out)
	if err == nil && !keep {
		*file = out.Bytes()
	} else if err == nil && *file == nil {
		return x.save(ctx, n, false, file)
	}
	return err
}

func (x *interrupted) backup(file *[]byte) func(context.Context, *harness.Node) error {
	return func(ctx context.Context, n *harness.Node) error {
		var out bytes.Buffer
		_, err := x.f.Save(ctx, n, &perdurepb.SaveClusterRequest{Cluster: "main", Online: true}, &out)
		*file = out.Bytes()
		return err
	}
}

func (x *interrupted) load(file []byte) func(context.Context, *harness.Node) error {
	return func(ctx context.Context, n *harness.Node) error {
		_, err := x.f.Load(ctx, n, &perdurepb.LoadOpen{Cluster: "main", Replace: true}, bytes.NewReader(file))
		return err
	}
}

// is checks that the cluster has a state, now.
func (x *interrupted) is(want []string) {
	x.t.Helper()
	if got, loading := x.now(); loading || !slices.Equal(got, want) {
		x.t.Fatalf("kill %d: the cluster owes %d records (a load is under way: %v), want %d", x.kills, len(got), loading, len(want))
	}
}

// now returns what the cluster owes; loading is true where a load is under way,
// and what is owed is not known by that.
func (x *interrupted) now() (owes []string, loading bool) {
	x.t.Helper()
	var file []byte
	err := x.f.Anywhere(within(x.t, time.Minute), func(ctx context.Context, n *harness.Node) error {
		err := x.backup(&file)(ctx, n)
		for _, d := range status.Convert(err).Details() {
			if e, ok := d.(*perdurepb.Error); ok && e.Reason == perdurepb.Reason_REASON_LOADING {
				loading = true
				return nil
			}
		}
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	if loading {
		return nil, true
	}
	return owed(x.t, file), false
}

// owed is what a file says of batches, and of durables but for what they counted.
func owed(t *testing.T, file []byte) []string {
	t.Helper()
	return slices.DeleteFunc(described(t, file, "main", ""), func(line string) bool {
		return strings.HasPrefix(line, "store ") || strings.HasPrefix(line, "session ")
	})
}

func (x *interrupted) killSuspend() {
	_ = x.killed("suspend", x.suspend)
	x.found("suspend", x.f.Cluster("main").Suspended)
	x.is(x.state)
	x.timed("suspend", x.suspend)
	if !x.f.Cluster("main").Suspended {
		x.t.Fatal("the cluster is not suspended")
	}
}

// killSave saves into the servers' directories, or to the client. No file is there
// that is not whole.
func (x *interrupted) killSave() {
	keep, file := rand.IntN(3) > 0, []byte{}
	save := func(ctx context.Context, n *harness.Node) error { return x.save(ctx, n, keep, &file) }
	x.found("save", x.killed("save", save) == nil)
	x.kept()
	x.is(x.state)
	x.timed("save", save)
	saved := [][]byte{file}
	if keep {
		saved = x.kept()
	}
	if !slices.ContainsFunc(saved, func(file []byte) bool { return slices.Equal(owed(x.t, file), x.state) }) {
		x.t.Fatalf("kill %d: the state is in none of %d files", x.kills, len(saved))
	}
}

// kept returns what the servers have of saved states, all of which must be good.
func (x *interrupted) kept() (files [][]byte) {
	x.t.Helper()
	for _, n := range x.f.Nodes {
		for _, pattern := range []string{"*.state", "*.backup"} {
			names, err := filepath.Glob(filepath.Join(n.Data, "state", pattern))
			if err != nil {
				x.t.Fatal(err)
			}
			for _, name := range names {
				file, err := os.ReadFile(name)
				if err != nil {
					x.t.Fatal(err)
				}
				owed(x.t, file)
				files = append(files, file)
			}
		}
	}
	return files
}

// killLoad loads the other file: until all of it is there, nothing is.
func (x *interrupted) killLoad() {
	file := x.files[x.next]
	x.next = 1 - x.next
	want := owed(x.t, file)
	if x.length["load"] == 0 {
		x.timed("load", x.load(file))
		x.state = want
		x.killLoad()
		return
	}
	said := x.killed("load", x.load(file))
	switch got, loading := x.now(); {
	case loading:
		x.met["load under way"]++
		shown := x.f.Cluster("main").Stores[0]
		if n := messagesOf(x.state); shown.Messages != n || shown.Durables[0].Pending != n {
			x.t.Fatalf("kill %d: in the middle of a load the cluster shows %+v, want %d messages", x.kills, shown, n)
		}
	case slices.Equal(got, want):
		x.found("load", true)
	case slices.Equal(got, x.state) && said != nil:
		x.found("load", false)
	default:
		x.t.Fatalf("kill %d: the load said %v, and the cluster owes %d records, %d before, %d in the file", x.kills, said, len(got), len(x.state), len(want))
	}
	x.timed("load", x.load(file))
	x.state = want
	x.is(want)
}

// messagesOf counts the messages of a state in which everybody wants all.
func messagesOf(state []string) (n uint64) {
	for _, line := range state {
		var id string
		var count uint64
		if _, err := fmt.Sscanf(line, "batch main %s %d", &id, &count); err == nil {
			n += count
		}
	}
	return n
}

func (x *interrupted) killResume() {
	_ = x.killed("resume", x.resume)
	x.found("resume", !x.f.Cluster("main").Suspended)
	x.is(x.state)
	x.timed("resume", x.resume)
	if err := x.publish(20); err != nil {
		x.t.Fatal(err)
	}
	x.state, _ = x.now()
}

// killBackup saves the cluster while it goes on.
func (x *interrupted) killBackup() {
	if x.length["backup"] == 0 {
		var file []byte
		x.timed("backup", x.backup(&file))
	}
	var interrupted, file []byte
	x.found("backup", x.killed("backup", x.backup(&interrupted)) == nil)
	x.is(x.state)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
				if err := x.publish(5); err != nil {
					ended <- err
					return
				}
			}
		}
	}()
	x.timed("backup", x.backup(&file))
	close(stop)
	if err := <-ended; err != nil {
		x.t.Fatal(err)
	}
	after, _ := x.now()
	// What was there before is in it, and nothing that does not come to be there.
	has := batchesOf(owed(x.t, file))
	for _, b := range batchesOf(x.state) {
		if !slices.Contains(has, b) {
			x.t.Fatalf("kill %d: a backup does not have %.60s", x.kills, b)
		}
	}
	all := batchesOf(after)
	for _, b := range has {
		if !slices.Contains(all, b) {
			x.t.Fatalf("kill %d: a backup has %.60s, the cluster does not", x.kills, b)
		}
	}
	x.state = after
}

func batchesOf(state []string) []string {
	return slices.DeleteFunc(slices.Clone(state), func(line string) bool { return !strings.HasPrefix(line, "batch ") })
}

// publish publishes so many messages, some in a batch.
func (x *interrupted) publish(n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Connect(ctx, x.f.Connect())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	p, err := c.Publisher(ctx, "main", client.WithBatchTarget(8000))
	if err != nil {
		return err
	}
	futures := make([]client.Future, n)
	for i := range futures {
		body := make([]byte, 1000)
		for k := range body {
			body[k] = byte(rand.Uint32())
		}
		futures[i] = p.PublishAsync(ctx, &message.Message{Body: body})
	}
	for _, future := range futures {
		if _, err := future.Wait(ctx); err != nil {
			return err
		}
	}
	return p.Close(ctx)
}

// drain receives all that both durables owe.
func (x *interrupted) drain() {
	x.t.Helper()
	n := messagesOf(x.state)
	for _, name := range []string{"", harness.Worker} {
		ctx := within(x.t, time.Minute)
		s, err := x.f.Client().Subscribe(ctx, "main", client.SubscriberName(name))
		if err != nil {
			x.t.Fatal(err)
		}
		for range n {
			d, err := s.Receive(ctx)
			if err == nil {
				err = d.Ack()
			}
			if err != nil {
				x.t.Fatal(err)
			}
		}
		if err := s.Close(ctx); err != nil {
			x.t.Fatal(err)
		}
	}
	x.f.AwaitPending("main", harness.Standard, 0)
	x.f.AwaitPending("main", harness.Shared, 0)
}
