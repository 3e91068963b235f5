package sim

import (
	"flag"
	"testing"
	"testing/cryptotest"
)

var (
	seedFlag   = flag.Uint64("seed", 1, "the first seed")
	seedsFlag  = flag.Int("seeds", 20, "how many seeds")
	stepsFlag  = flag.Int("steps", 2000, "steps of a run")
	faultsFlag = flag.String("faults", "default", "what goes wrong: none, default (a subset drawn from the seed) or all")
	mutantFlag = flag.String("mutant", "", "a bug to plant")
)

// run runs one seed.
func run(t *testing.T, o Options) Result {
	cryptotest.SetGlobalRandom(t, o.Seed)
	return Run(o)
}

func TestSim(t *testing.T) {
	var seen Seen
	for i := range *seedsFlag {
		o := Options{Seed: *seedFlag + uint64(i), Steps: *stepsFlag, Faults: Faults(*faultsFlag), Mutant: Mutant(*mutantFlag)}
		r := run(t, o)
		if r.Err != nil {
			t.Fatalf("seed %d: %v\n%s\nreplay with\n\t%s", o.Seed, r.Err, r.Last, o.Replay())
		}
		seen.Add(r.Seen)
		t.Logf("seed %d: %d of %d confirmed, %d entries, %.1f s, hash %016x", o.Seed, r.Confirmed, r.Published, r.Entries, float64(r.Virtual)/1e9, r.Hash)
	}
	t.Logf("seen:\n%v", seen)
}
