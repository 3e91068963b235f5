package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// fenced is what the log of a server says, as an error, of a service that may
// have forgotten.
const fenced = "may have forgotten"

// TestMemoryForgets kills a server of a cluster in memory: the others go on, and
// the one that comes back has forgotten, says so, and takes no part.
func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(
		harness.Cluster{Name: "volatile", Durability: "memory"}, harness.Cluster{Name: "solid"}))
	f.Tolerate(fenced)
	h := harness.NewHistory(t)
	load(f, h, "volatile")
	load(f, h, "solid")
	h.AwaitProgress(30 * time.Second)
	victim := f.Leader("volatile")
	victim.Kill()
	h.AwaitProgress(30 * time.Second)
	victim.Start()
	service := f.AwaitState("volatile", victim, "fenced")
	if !strings.Contains(service.Detail, fenced) {
		t.Errorf("status says of the fenced service: %q; it must say why", service.Detail)
	}
	f.AwaitState("solid", victim, "follower") // its other service does not suffer
	harness.Await(t, 10*time.Second, "readyz to say that a service is fenced", func(ctx context.Context) error {
		if err := victim.Readyz(ctx); err == nil || !strings.Contains(err.Error(), fenced) {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("volatile", harness.Standard, 0)
	if s := f.AwaitState("volatile", victim, "fenced"); s.Applied != 0 {
		t.Errorf("the fenced service has applied %d entries: it must get none under its old id", s.Applied)
	}
}

// TestMemoryNeedsItsMajority kills two servers of a cluster in memory. Both
// forget; what is left is no majority of those who remember, and nothing may be
// confirmed.
func TestMemoryNeedsItsMajority(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "volatile", Durability: "memory"}))
	f.Tolerate(fenced)
	h := harness.NewHistory(t)
	p := h.Publish(f.Client(), "volatile", harness.Load{Rate: 100, Size: 100, Limit: 100})
	if err := p.Wait(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	lost := f.Nodes[:2]
	for _, n := range lost {
		n.Kill()
	}
	for _, n := range lost {
		n.Start()
	}
	for _, n := range lost {
		f.AwaitState("volatile", n, "fenced")
	}
	ctx := within(t, 3*time.Second)
	c := f.Client()
	if _, err := c.Publisher(ctx, "volatile"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a publisher to a cluster whose majority has forgotten: %v; want that it waits for a leader", err)
	}
}

// TestWipedDirectory takes a server's directory away. It comes back empty, under
// the name of one that had promised: neither its services nor its replica of the
// realm may take part.
func TestWipedDirectory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"s1", "s3"} { // s1 is the one that founds realms
		t.Run(name, func(t *testing.T) {
			f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
			f.Tolerate(fenced)
			h := harness.NewHistory(t)
			load(f, h, "main")
			h.AwaitProgress(30 * time.Second)
			victim := f.Node(name)
			victim.Kill()
			victim.Wipe()
			victim.Start()
			f.AwaitState("main", victim, "fenced")
			harness.Await(t, 30*time.Second, "the realm's replica to be fenced", func(ctx context.Context) error {
				err := victim.Readyz(ctx)
				if err == nil || !strings.Contains(err.Error(), "realm: ") || !strings.Contains(err.Error(), fenced) {
					return fmt.Errorf("readyz: %v", err)
				}
				return nil
			})
			h.AwaitProgress(30 * time.Second)
			// The realm goes on with two of three.
			f.Apply(harness.Definition(harness.Cluster{Name: "main", Stores: []string{"more"}}))
			h.Finish()
			f.AwaitPending("main", harness.Standard, 0)
			if s := f.AwaitState("main", victim, "fenced"); s.Applied != 0 {
				t.Errorf("the wiped service has applied %d entries", s.Applied)
			}
		})
	}
}

// TestEmptyServersFormNoSecondRealm takes the directories of a majority away. An
// empty majority must not found a realm while a server of the old one is
// configured, be that one up or down, and even if the one that founds is empty.
func TestEmptyServersFormNoSecondRealm(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	f.Tolerate(fenced)
	status, err := f.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	old := status.RealmID
	for _, n := range f.Nodes {
		n.Kill()
	}
	f.Node("s1").Wipe()
	f.Node("s2").Wipe()
	f.Node("s1").Start()
	f.Node("s2").Start()
	for _, name := range []string{"s1", "s2"} {
		harness.Await(t, 10*time.Second, name+" to wait for s3", func(ctx context.Context) error {
			if err := f.Node(name).Readyz(ctx); err == nil || !strings.Contains(err.Error(), "s3") {
				return fmt.Errorf("readyz: %v", err)
			}
			return nil
		})
	}
	f.Node("s3").Start()
	for _, name := range []string{"s1", "s2"} {
		harness.Await(t, 10*time.Second, name+" to be fenced or to wait", func(ctx context.Context) error {
			err := f.Node(name).Readyz(ctx)
			if err == nil || !strings.Contains(err.Error(), fenced) && !strings.Contains(err.Error(), "waiting for core server s1 to found") {
				return fmt.Errorf("readyz: %v", err)
			}
			return nil
		})
	}
	harness.Pause(time.Second) // ten attempts at a formation
	for _, n := range f.Nodes {
		status, err := f.StatusAt(within(t, 10*time.Second), n)
		if err == nil && status.RealmID != "" && status.RealmID != old {
			t.Errorf("%s belongs to realm %s now; it was %s", n.Name, status.RealmID, old)
		}
		if err := n.Readyz(within(t, time.Second)); err == nil {
			t.Errorf("%s is ready, with the data of a majority lost", n.Name)
		}
	}
	c := f.Client(client.WithRetry(time.Second))
	if p, err := c.Publisher(within(t, 3*time.Second), "main"); err == nil {
		t.Errorf("a publisher found a leader: %v", p)
	}
}
