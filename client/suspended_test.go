package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

func (s *fakeServer) SuspendCluster(ctx context.Context, r *perdurepb.SuspendClusterRequest) (*perdurepb.SuspendClusterResponse, error) {
	return administer[*perdurepb.SuspendClusterResponse](s, ctx, r)
}

func (s *fakeServer) ResumeCluster(ctx context.Context, r *perdurepb.ResumeClusterRequest) (*perdurepb.ResumeClusterResponse, error) {
	return administer[*perdurepb.ResumeClusterResponse](s, ctx, r)
}

const suspended = perdurepb.Reason_REASON_SUSPENDED

// suspend has the store refuse batches for so long, and the servers subscribers.
func (w *world) suspend(d time.Duration) {
	w.with(func() {
		w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{reason: suspended} }
		w.onSub = func(*perdurepb.SubscribeOpen) error { return refuse(suspended, "") }
	})
	time.AfterFunc(d, func() { w.with(func() { w.onBatch, w.onSub = nil, nil }) })
}

// TestPublishSuspended publishes to a suspended cluster: it waits as long as it
// retries, and every message is stored once, in order, when the cluster is resumed.
func TestPublishSuspended(t *testing.T) {
	for name, tt := range map[string]struct {
		retry time.Duration
		after time.Duration
		want  error
	}{
		"for ever": {client.RetryForever, time.Hour, nil},
		"2 s":      {2 * time.Second, 2 * time.Second, client.ErrSuspended},
		"never":    {client.RetryNever, 0, client.ErrSuspended},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect(client.WithRetry(tt.retry))
				defer closeAll(t, c)
				p := publisher(t, c, client.WithBatchTarget(1))
				w.suspend(time.Hour)
				began := time.Now()
				futures := make([]client.Future, 5)
				for i := range futures {
					futures[i] = p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
				}
				for i, f := range futures {
					if _, err := f.Wait(t.Context()); !errors.Is(err, tt.want) || errors.Is(err, client.ErrOutcomeUnknown) {
						t.Errorf("message %d: %v", i, err)
					}
				}
				if took := time.Since(began); took < tt.after || took > tt.after+time.Second {
					t.Errorf("took %v", took)
				}
				if tt.want == nil {
					wantStored(t, w, numbered(5))
				}
			})
		})
	}
}

// TestSubscribeSuspended subscribes at a suspended cluster, and has a subscription
// lose its leader there: both wait, asking the leader now and then and nobody else.
func TestSubscribeSuspended(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		s := subscribe(t, c)
		w.suspend(time.Minute)
		w.kill("s1")
		w.lead("s2")
		w.durable.add("0")
		if _, err := c.Subscribe(t.Context(), "flights", client.WithRetry(client.RetryNever)); !errors.Is(err, client.ErrSuspended) {
			t.Errorf("subscribed at once: %v", err)
		}
		_, err := c.Subscribe(t.Context(), "flights", client.WithRetry(2*time.Second))
		if !errors.Is(err, client.ErrSuspended) || !errors.Is(err, client.ErrTimeout) {
			t.Errorf("subscribed for 2 s: %v", err)
		}
		asked := 0
		w.with(func() {
			before := w.onSub
			w.onSub = func(o *perdurepb.SubscribeOpen) error { asked++; return before(o) }
		})
		if d := receive(t, s); string(d.Body()) != "0" {
			t.Errorf("received %q", d.Body())
		}
		if asked > 300 {
			t.Errorf("asked %d times in a minute", asked)
		}
	})
}

// TestSuspendCall has a leader go while it suspends its cluster: the next one is
// asked again.
func TestSuspendCall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		var asked []string
		w.admin = func(server string, request any) (any, error) {
			if server != "s2" {
				return nil, refuse(perdurepb.Reason_REASON_NOT_LEADER, "s2")
			}
			asked = append(asked, fmt.Sprintf("%T", request))
			if len(asked) == 1 {
				return nil, refuse(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "")
			}
			switch r := request.(type) {
			case *perdurepb.SuspendClusterRequest:
				if r.Cluster == "other" {
					return nil, refuse(perdurepb.Reason_REASON_NO_SUCH_CLUSTER, "")
				}
				return &perdurepb.SuspendClusterResponse{Recalled: 7}, nil
			default:
				return &perdurepb.ResumeClusterResponse{}, nil
			}
		}
		if r, err := c.Admin().SuspendCluster(t.Context(), "main"); err != nil || r.Recalled != 7 || len(asked) != 2 {
			t.Errorf("suspended: %+v, %v, asked %v", r, err, asked)
		}
		if err := c.Admin().ResumeCluster(t.Context(), "main"); err != nil || len(asked) != 3 {
			t.Errorf("resumed: %v, asked %v", err, asked)
		}
		if _, err := c.Admin().SuspendCluster(t.Context(), "other"); !errors.Is(err, client.ErrNoSuchCluster) || !errors.Is(err, client.ErrNotFound) {
			t.Errorf("a cluster that is not there: %v", err)
		}
	})
}
