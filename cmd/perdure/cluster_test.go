package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
)

// What was done to some clusters is shown, in order, also when others failed.
func TestEachCluster(t *testing.T) {
	var names []string
	for i := range 3 * clustersAtOnce {
		names = append(names, fmt.Sprint("c", i))
	}
	broken := errors.New("broken")
	done, err := eachCluster(names, func(name string) (clusterDone, error) {
		if name == "c1" || name == "c50" {
			return clusterDone{}, broken
		}
		return clusterDone{Name: name, Suspended: true, Recalled: 2}, nil
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "cluster c1: ") || !strings.Contains(err.Error(), "cluster c50: ") {
		t.Errorf("error %v", err)
	}
	want := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "c1" || n == "c50" })
	for i, d := range done {
		if i >= len(want) || d.Name != want[i] {
			t.Fatalf("done %v, want %v", done, want)
		}
	}
	if len(done) != len(want) {
		t.Errorf("%d done, want %d", len(done), len(want))
	}
	var out strings.Builder
	p := &program{stdout: &out}
	if err := p.printClusters(done[:1], formatTable); err != nil || out.String() != "cluster c0: suspended; 2 messages taken back from subscribers\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
	if done, err := eachCluster(nil, nil); err != nil || done == nil || len(done) != 0 {
		t.Errorf("of a realm without clusters: %v, %v", done, err)
	}
}

// Whose time is over while the cluster waits for subscribers hears that, and for how
// long that may take.
func TestSuspendTakesLonger(t *testing.T) {
	t.Parallel()
	o := newServer(t)
	o.apply(strings.Replace(twoClusters, "durability: async", "durability: async\n    suspend_grace: 10m", 1))
	sub, err := o.Subscribe(t.Context(), "one", client.Durable("keep"))
	if err != nil {
		t.Fatal(err)
	}
	o.publish("one", 1)
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	before, err := suspendCluster(over, o.Client, "alpha")
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "suspend_grace") {
		t.Errorf("before: %v, %v", before, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := o.Admin().SuspendCluster(ctx, "alpha")
		done <- err
	}()
	for suspended := false; !suspended; {
		s, err := clusterStatusOf(t.Context(), o.Client, "alpha")
		if err != nil {
			t.Fatal(err)
		}
		suspended = s.Suspended
	}
	_, err = suspendCluster(over, o.Client, "alpha")
	if c := describe(err); c.Reason != reasonTimeout || !c.Retryable || !strings.Contains(c.Message, "its suspend_grace is 10m0s: repeat the command, or give it --timeout 10m10s") {
		t.Errorf("%+v", c)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
