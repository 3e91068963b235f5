package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/client"
)

// Status asks all servers and puts their answers together.
func (f *Fleet) Status(ctx context.Context) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, f.Connect(), client.WithRetry(time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	return c.Admin().Status(ctx)
}

// StatusAt asks one server what it knows.
func (f *Fleet) StatusAt(ctx context.Context, n *Node) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, n.Client, client.WithRetry(time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	return c.Admin().StatusAt(ctx, n.Client)
}

// ClusterIn finds a cluster in a status.
func ClusterIn(s *client.Status, name string) (client.ClusterStatus, error) {
	for _, c := range s.Clusters {
		if c.Name == name {
			return c, nil
		}
	}
	return client.ClusterStatus{}, fmt.Errorf("status has no cluster %q", name)
}

// Clusters returns the status of clusters, by name, once each has a leader that
// answers.
func (f *Fleet) Clusters(names ...string) map[string]client.ClusterStatus {
	f.t.Helper()
	found := map[string]client.ClusterStatus{}
	Await(f.t, 30*time.Second, fmt.Sprintf("leaders of %q", names), func(ctx context.Context) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			c, err := ClusterIn(s, name)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(c.Services, func(svc client.ServiceStatus) bool {
				return svc.Server == c.Leader && svc.State == "leader"
			}) {
				return fmt.Errorf("cluster %s has leader %q, services %+v", name, c.Leader, c.Services)
			}
			found[name] = c
		}
		return nil
	})
	return found
}

// Cluster returns the status of a cluster once it has a leader that answers.
func (f *Fleet) Cluster(name string) client.ClusterStatus {
	f.t.Helper()
	return f.Clusters(name)[name]
}

// Leader returns the server that leads a cluster.
func (f *Fleet) Leader(cluster string) *Node {
	f.t.Helper()
	return f.Node(f.Cluster(cluster).Leader)
}

// Other returns a running server other than those given.
func (f *Fleet) Other(not ...*Node) *Node {
	f.t.Helper()
	for _, n := range f.Nodes {
		if n.Running() && !slices.Contains(not, n) {
			return n
		}
	}
	f.t.Fatal("no other server runs")
	return nil
}

// AwaitState waits until a service of a cluster is in a state.
func (f *Fleet) AwaitState(cluster string, n *Node, state string) client.ServiceStatus {
	f.t.Helper()
	var found client.ServiceStatus
	Await(f.t, 30*time.Second, fmt.Sprintf("the service of %s on %s to be %s", cluster, n.Name, state), func(ctx context.Context) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		c, err := ClusterIn(s, cluster)
		if err != nil {
			return err
		}
		for _, svc := range c.Services {
			if svc.Server == n.Name {
				found = svc
				if svc.State == state {
					return nil
				}
				return fmt.Errorf("it is %+v", svc)
			}
		}
		return errors.New("the cluster has no service there")
	})
	return found
}

// AwaitIdentical waits until all services of a cluster have applied the same
// entry, and fails unless their state is the same then. Nobody may publish or
// acknowledge meanwhile.
func (f *Fleet) AwaitIdentical(cluster string) {
	f.t.Helper()
	Await(f.t, time.Minute, "the services of "+cluster+" to be at one entry in one state", func(ctx context.Context) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		c, err := ClusterIn(s, cluster)
		if err != nil {
			return err
		}
		for _, svc := range c.Services {
			if svc.Applied == 0 || svc.Applied != c.Services[0].Applied || svc.StateHash != c.Services[0].StateHash {
				return fmt.Errorf("they are %+v", c.Services)
			}
		}
		return nil
	})
}

// AwaitPending waits until a durable has so many messages pending.
func (f *Fleet) AwaitPending(store, durable string, want uint64) {
	f.t.Helper()
	Await(f.t, 30*time.Second, fmt.Sprintf("durable %s of store %s to have %d messages pending", durable, store, want), func(ctx context.Context) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		d, err := DurableIn(s, store, durable)
		if err == nil && d.Pending != want {
			err = fmt.Errorf("it has %d", d.Pending)
		}
		return err
	})
}

// DurableIn finds a durable in a status.
func DurableIn(s *client.Status, store, durable string) (client.DurableStatus, error) {
	for _, c := range s.Clusters {
		for _, st := range c.Stores {
			if st.Name != store {
				continue
			}
			for _, d := range st.Durables {
				if d.Name == durable {
					return d, nil
				}
			}
		}
	}
	return client.DurableStatus{}, fmt.Errorf("status has no durable %q in a store %q", durable, store)
}
