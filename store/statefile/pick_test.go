package statefile

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestPickedIsPart: what is picked has what the file says of these stores, and
// differs from it by the others only.
func TestPickedIsPart(t *testing.T) {
	for seed := range uint64(40) {
		file := save(t, newState(t, rand.New(rand.NewPCG(seed, 1))))
		whole, _, err := Verify(bytes.NewReader(file), nil)
		if err != nil {
			t.Fatal(err)
		}
		open := func() (io.Reader, error) { return bytes.NewReader(file), nil }
		names := []string{}
		for i, s := range whole.Stores {
			if seed>>i&1 == 1 {
				names = append(names, s.Name)
			}
		}
		var out bytes.Buffer
		said, totals, err := Pick(open, &out, names...)
		if err != nil || totals.Size != int64(out.Len()) {
			t.Fatal(totals, err)
		}
		got, _, err := Verify(bytes.NewReader(out.Bytes()), nil)
		if err != nil || !reflect.DeepEqual(got, said) {
			t.Fatalf("seed %d: %+v, %v, want %+v", seed, got, err, said)
		}
		if len(got.Stores) != len(names) || got.Cluster != whole.Cluster || got.LastSession != whole.LastSession {
			t.Fatalf("seed %d: %+v of %+v, want %v", seed, got, whole, names)
		}
		picked := map[string]bool{}
		for _, s := range got.Stores {
			picked[s.Name] = true
		}
		_, err = Diff(bytes.NewReader(file), bytes.NewReader(out.Bytes()), 1e6, func(d Difference) error {
			if picked[d.Store] || d.B != "" {
				t.Errorf("seed %d: %+v", seed, d)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Pick(open, io.Discard, append(names, "none")...); err == nil {
			t.Error("a store that is not there was picked")
		}
	}
}
