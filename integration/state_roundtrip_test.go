package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// TestSavedStateGoesAnywhere saves a cluster in which a bit of everything has
// happened, and loads that into clusters of one, three and five services of every
// durability: each member has the state that was saved, record by record, and a
// publisher that does not know whether its last batch was stored is told so there.
func TestSavedStateGoesAnywhere(t *testing.T) {
	source := harness.Cluster{Name: "main", Stores: []string{"more"}}
	all, clusters := []string{"s1", "s2", "s3", "s4", "s5"}, []harness.Cluster{source}
	var names []string
	for _, durability := range []string{"memory", "async", "sync"} {
		for _, size := range []int{1, 3, 5} {
			name := fmt.Sprintf("%s-%d", durability, size)
			from := rand.IntN(5)
			clusters = append(clusters, harness.Cluster{Name: name, Durability: durability,
				Servers: append(slices.Clone(all), all...)[from : from+size], Stores: []string{name + "-more"}})
			names = append(names, name)
		}
	}
	f := harness.Start(t, 5, harness.Definition(source))
	eventful := makeEvents(t, f)
	f.Apply(harness.Definition(clusters...)) // now, since the events would end clusters in memory
	ctx := within(t, time.Minute)
	if _, err := f.Client().Admin().SuspendCluster(ctx, "main"); err != nil {
		t.Fatal(err)
	}
	file := saveMembers(t, f, "main", 3, nil)
	want := described(t, file, "main", "more")
	t.Logf("%d bytes, %d records", len(file), len(want))
	for _, name := range names {
		rename := map[string]string{"main": name, "more": name + "-more"}
		loaded, err := f.LoadAnywhere(within(t, time.Minute), &perdurepb.LoadOpen{Cluster: name, Rename: rename}, file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := f.Cluster(name)
		if len(loaded.Stores) != 2 {
			t.Errorf("%s: loaded %v", name, loaded)
		}
		// An empty cluster is suspended for the load; saving it needs that.
		if _, err := f.Client().Admin().SuspendCluster(ctx, name); err != nil {
			t.Fatal(err)
		}
		got := described(t, saveMembers(t, f, name, len(c.Services), nil), name, name+"-more")
		if !slices.Equal(got, want) {
			t.Fatalf("%s has\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := f.Client().Admin().ResumeCluster(ctx, name); err != nil {
			t.Fatal(err)
		}
		eventful.retry(t, f, name)
		f.AwaitIdentical(name)
	}
}

// saveMembers saves the state of each service of a suspended cluster, which must be
// the same, and returns one file.
func saveMembers(t *testing.T, f *harness.Fleet, cluster string, services int, stores []string) (file []byte) {
	t.Helper()
	applied, hash := uint64(0), ""
	for _, s := range f.Cluster(cluster).Services {
		applied = max(applied, s.Applied)
	}
	for i := range services {
		got, _, err := f.SaveAnywhere(within(t, time.Minute), &perdurepb.SaveClusterRequest{
			Cluster: cluster, Service: fmt.Sprintf("%s-%d", cluster, i+1), Applied: applied, Stores: stores})
		if err != nil {
			t.Fatalf("cluster %s, service %d: %v", cluster, i+1, err)
		}
		m, _, err := statefile.Verify(bytes.NewReader(got), nil)
		if err != nil {
			t.Fatal(err)
		}
		if hash != "" && m.StateHash != hash {
			t.Fatalf("service %d of cluster %s saved state %s, another one %s", i+1, cluster, m.StateHash, hash)
		}
		file, hash = got, m.StateHash
	}
	return file
}

// described returns the records of a file, with stores under the names main and
// more, sorted: their order follows from the names.
func described(t *testing.T, file []byte, main, more string) (out []string) {
	t.Helper()
	var stores, durables []string
	if _, _, err := statefile.Verify(bytes.NewReader(file), func(r statefile.Record) error {
		switch r := r.(type) {
		case *statefile.Store:
			r.Name = map[string]string{main: "main", more: "more"}[r.Name]
			stores = append(stores, r.Name)
			out = append(out, fmt.Sprintf("store %+v", *r))
		case *statefile.Durable:
			name := stores[r.Store] + "/" + r.Name
			durables, r.Store = append(durables, name), 0
			out = append(out, fmt.Sprintf("durable %s %+v", name, *r))
		case *statefile.Pending:
			out = append(out, fmt.Sprintf("pending %s %v", durables[r.Durable], r.Runs))
		case *statefile.Counts:
			out = append(out, fmt.Sprintf("counts %s %v", durables[r.Durable], r.Ended))
		case *statefile.Session:
			name := stores[r.Store]
			r.Store = 0
			out = append(out, fmt.Sprintf("session %s %+v", name, *r))
		case *statefile.Batch:
			out = append(out, fmt.Sprintf("batch %s %v %d %d %x", stores[r.Store], r.First, r.Count, r.Stamp, r.Bytes))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// events is what publishers did before the state was saved, by store.
type events map[string]published

// published is the last batch of a session, and what was said of it.
type published struct {
	session, epoch uint64
	request        *perdurepb.PublishRequest
	outcome        *perdurepb.PublishOutcome
}

// makeEvents has a bit of everything happen in cluster main: leaders come and go,
// subscribers acknowledge some messages and give others back, durables are created.
func makeEvents(t *testing.T, f *harness.Fleet) events {
	t.Helper()
	ctx := within(t, time.Minute)
	done := events{}
	for _, store := range []string{"main", "more"} {
		if _, err := f.Client().Subscribe(ctx, store, client.Durable("dynamic"), client.Shared(), client.Match(`{"k":"a"}`)); err != nil {
			t.Fatal(err)
		}
		done[store] = publishRaw(t, f, store, published{}, 90+rand.IntN(30))
		handle(t, f, store, "")
		handle(t, f, store, harness.Worker)
		leader := f.Leader("main")
		leader.Kill()
		handle(t, f, store, harness.Worker)
		leader.Start()
		leader.Ready()
		done[store] = publishRaw(t, f, store, done[store], 1+rand.IntN(9))
	}
	return done
}

// handle receives some messages of a durable, acknowledges half of them and gives
// some back.
func handle(t *testing.T, f *harness.Fleet, store, name string) {
	t.Helper()
	ctx := within(t, time.Minute)
	s, err := f.Client().Subscribe(ctx, store, client.SubscriberName(name), client.Prefetch(20))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		d, err := s.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0, 1:
			err = d.AckSync(ctx)
		case 2:
			err = d.Nack()
		}
		if err != nil && !errors.Is(err, client.ErrNotOwner) {
			t.Fatal(err)
		}
		if s.Durable() == harness.Standard && i%4 > 1 && i > 15 {
			break // the rest waits for these, in order
		}
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// publishRaw publishes n batches to a store as a session that goes on from where it
// was, and returns where it is.
func publishRaw(t *testing.T, f *harness.Fleet, store string, at published, n int) published {
	t.Helper()
	err := f.Anywhere(within(t, time.Minute), func(ctx context.Context, node *harness.Node) error {
		stream, opened, err := openPublish(ctx, f, node, store, at)
		if err != nil {
			return err
		}
		at.session, at.epoch = opened.Session, opened.Epoch
		for sequence := opened.LastSequence + 1; n > 0; sequence, n = sequence+1, n-1 {
			var b message.Builder
			for range 1 + rand.IntN(4) {
				m := &message.Message{Body: fmt.Appendf(nil, "%d of session %d", sequence, at.session)}
				if err := b.Add(m.SetString("k", string(rune('a'+rand.IntN(3))))); err != nil {
					t.Fatal(err)
				}
			}
			at.request = &perdurepb.PublishRequest{Sequence: sequence, Attempt: opened.Attempt, Batch: b.AppendTo(nil, message.Options{})}
			if at.outcome, err = at.publish(stream); err != nil {
				return err
			}
			if at.outcome.Error != nil || at.outcome.Duplicate {
				t.Fatalf("batch %d of session %d: %v", sequence, at.session, at.outcome)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

type rawStream = grpc.BidiStreamingClient[perdurepb.PublishRequest, perdurepb.PublishResponse]

// openPublish opens a publisher's stream at one server.
func openPublish(ctx context.Context, f *harness.Fleet, n *harness.Node, store string, at published) (rawStream, *perdurepb.PublishOpened, error) {
	stream, err := perdurepb.NewMessagesClient(f.Conn(n)).Publish(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := stream.Send(&perdurepb.PublishRequest{Open: &perdurepb.PublishOpen{Endpoint: store, Session: at.session, Epoch: at.epoch}}); err != nil {
		_, err = stream.Recv() // has the reason
		return nil, nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil || r.Opened != nil {
			return stream, r.GetOpened(), err
		}
	}
}

// publish sends the batch and waits for what becomes of it.
func (p published) publish(stream rawStream) (*perdurepb.PublishOutcome, error) {
	if err := stream.Send(p.request); err != nil {
		_, err = stream.Recv()
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, o := range r.Outcomes {
			if o.Sequence == p.request.Sequence {
				return o, nil
			}
		}
	}
}

// retry publishes the last batch of each session again, in a cluster that the state
// was loaded into: it is told what it was told then. What is published next is new,
// and its ids follow those that were given.
func (e events) retry(t *testing.T, f *harness.Fleet, cluster string) {
	t.Helper()
	for from, store := range map[string]string{"main": cluster, "more": cluster + "-more"} {
		p := e[from]
		var again, next *perdurepb.PublishOutcome
		err := f.Anywhere(within(t, time.Minute), func(ctx context.Context, n *harness.Node) error {
			stream, opened, err := openPublish(ctx, f, n, store, p)
			if err != nil {
				return err
			}
			if opened.LastSequence < p.request.Sequence {
				t.Fatalf("cluster %s knows session %d up to batch %d, want %d", cluster, p.session, opened.LastSequence, p.request.Sequence)
			}
			if again, err = p.publish(stream); err != nil {
				return err
			}
			more := published{request: &perdurepb.PublishRequest{Sequence: p.request.Sequence + 1, Attempt: p.request.Attempt, Batch: p.request.Batch}}
			next, err = more.publish(stream)
			return err
		})
		if err != nil {
			t.Fatalf("cluster %s: %v", cluster, err)
		}
		if o := p.outcome; !again.Duplicate || again.Error != nil || again.FirstId != o.FirstId || again.Count != o.Count || again.Interested != o.Interested {
			t.Errorf("cluster %s: the batch that was stored before is %v, was %v", cluster, again, o)
		}
		if next.Error != nil || next.FirstId != p.outcome.FirstId+uint64(p.outcome.Count) {
			t.Errorf("cluster %s: the next batch is %v, after %v", cluster, next, p.outcome)
		}
	}
}
