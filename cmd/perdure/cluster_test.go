package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
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
