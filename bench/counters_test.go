package bench

import (
	"testing"

	"github.com/perdure/perdure/client"
)

func TestCounters(t *testing.T) {
	counts := func(incarnation, fsyncs, objects, bytes uint64) *client.ProcessStatus {
		return &client.ProcessStatus{Incarnation: incarnation, Fsyncs: fsyncs, AllocatedObjects: objects, AllocatedBytes: bytes}
	}
	type answers = map[string]*client.ProcessStatus
	var c counters
	for i, tc := range []struct {
		name    string
		killed  string
		answers answers
		want    Counts
		known   bool
	}{
		{"nobody", "", answers{}, Counts{}, false},
		{"two of three", "", answers{"s1": counts(1, 10, 100, 1000), "s2": counts(2, 1, 2, 3), "s3": nil}, Counts{11, 102, 1003}, false},
		{"all", "", answers{"s1": counts(1, 10, 100, 1000), "s2": counts(2, 1, 2, 3), "s3": counts(3, 5, 5, 5)}, Counts{16, 107, 1008}, true},
		{"one is silent", "", answers{"s1": counts(1, 20, 200, 2000), "s2": counts(2, 1, 2, 3), "s3": nil}, Counts{26, 207, 2008}, false},
		{"because it was killed", "s3", answers{"s1": counts(1, 20, 200, 2000), "s2": counts(2, 1, 2, 3), "s3": nil}, Counts{26, 207, 2008}, true},
		{"it counts anew", "", answers{"s1": counts(1, 20, 200, 2000), "s2": counts(2, 1, 2, 3), "s3": counts(4, 2, 2, 2)}, Counts{28, 209, 2010}, true},
		{"and further", "", answers{"s1": counts(1, 20, 200, 2000), "s2": counts(2, 1, 2, 3), "s3": counts(4, 9, 9, 9)}, Counts{35, 216, 2017}, true},
		{"and is silent", "", answers{"s1": counts(1, 20, 200, 2000), "s2": counts(2, 1, 2, 3), "s3": nil}, Counts{35, 216, 2017}, false},
	} {
		if tc.killed != "" {
			c.gone(tc.killed)
		}
		if got, known := c.see(tc.answers); got != tc.want || known != tc.known {
			t.Errorf("%d, %s: %+v, %v; want %+v, %v", i, tc.name, got, known, tc.want, tc.known)
		}
	}
}
