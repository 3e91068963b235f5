package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"testing/cryptotest"
)

var (
	seedFlag    = flag.Uint64("seed", 1, "the first seed")
	seedsFlag   = flag.Int("seeds", few(20, 3), "how many seeds")
	stepsFlag   = flag.Int("steps", 2000, "steps of a run")
	faultsFlag  = flag.String("faults", "default", "what goes wrong: none, default (a subset drawn from the seed) or all")
	mutantFlag  = flag.String("mutant", "", "a bug to plant")
	workersFlag = flag.Int("workers", 1, "processes that share the seeds: seeds of one process run one after the other")
	traceFlag   = flag.Bool("trace", false, "print the last events also of runs in which all is well")
)

// few is how many runs there are, with the race detector less.
func few(n, raced int) int {
	if underRace {
		return raced
	}
	return n
}

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // runs are short and small
	os.Exit(m.Run())
}

// run runs one seed. Raft draws election timeouts from crypto/rand, which is
// one for the whole process.
func run(t *testing.T, o Options) Result {
	cryptotest.SetGlobalRandom(t, o.Seed)
	return Run(o)
}

// TestSim runs seeds. See the flags, and Options.Replay for what a failure says.
func TestSim(t *testing.T) {
	if *workersFlag > 1 {
		spread(t, *workersFlag)
		return
	}
	var seen Seen
	for i := range *seedsFlag {
		o := Options{Seed: *seedFlag + uint64(i), Steps: *stepsFlag, Faults: Faults(*faultsFlag), Mutant: Mutant(*mutantFlag)}
		r := run(t, o)
		if r.Err != nil {
			t.Fatalf("seed %d: %v\n%s\nreplay with\n\t%s", o.Seed, r.Err, r.Last, o.Replay())
		}
		seen.Add(r.Seen)
		t.Logf("seed %d: %d of %d messages confirmed, %d entries, %.1f s, hash %016x", o.Seed, r.Confirmed, r.Published, r.Entries, float64(r.Virtual)/1e9, r.Hash)
		if *traceFlag {
			t.Log(r.Last)
		}
	}
	t.Logf("seen:\n%v", seen)
}

// spread runs the seeds in processes of their own.
func spread(t *testing.T, workers int) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	each := (*seedsFlag + workers - 1) / workers
	for n := 0; n < *seedsFlag; n += each {
		cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestSim$", "-test.timeout", "0", "-faults", *faultsFlag, "-mutant", *mutantFlag,
			"-steps", strconv.Itoa(*stepsFlag), "-seed", strconv.FormatUint(*seedFlag+uint64(n), 10), "-seeds", strconv.Itoa(min(each, *seedsFlag-n)))
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, bytes.TrimSpace(out))
			}
		})
	}
	wg.Wait()
}

// The same seed gives the same run, to the last event.
func TestSameSeedSameRun(t *testing.T) {
	hashes := map[uint64]uint64{}
	for seed := uint64(1); seed <= uint64(few(5, 2)); seed++ {
		o := Options{Seed: seed, Steps: 700, Faults: AllFaults}
		first, second := run(t, o), run(t, o)
		if first.Hash != second.Hash || fmt.Sprint(first.Err) != fmt.Sprint(second.Err) {
			t.Errorf("seed %d: one run has hash %016x (%v), the next %016x (%v)", seed, first.Hash, first.Err, second.Hash, second.Err)
		}
		if other, ok := hashes[first.Hash]; ok {
			t.Errorf("seeds %d and %d give the same run", seed, other)
		}
		hashes[first.Hash] = seed
	}
}

// A run without faults confirms and delivers everything.
func TestNoFaults(t *testing.T) {
	for seed := uint64(1); seed <= uint64(few(5, 1)); seed++ {
		r := run(t, Options{Seed: seed, Steps: 700, Faults: NoFaults})
		if r.Err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, r.Err, r.Last)
		}
		if r.Confirmed < r.Published*9/10 || r.Published < 100 {
			t.Errorf("seed %d: %d of %d messages confirmed", seed, r.Confirmed, r.Published)
		}
	}
}

// seldom are events that no few seeds can promise.
var seldom = map[Event]bool{SessionGivenUp: true}

// What the invariants are about must happen, or they prove little.
func TestSometimes(t *testing.T) {
	var seen Seen
	for seed := uint64(1); seed <= uint64(few(60, 4)); seed++ {
		faults := DefaultFaults
		if seed%2 == 0 {
			faults = AllFaults
		}
		o := Options{Seed: seed, Steps: *stepsFlag, Faults: faults}
		r := run(t, o)
		if r.Err != nil {
			t.Fatalf("seed %d: %v\n%s\nreplay with\n\t%s", o.Seed, r.Err, r.Last, o.Replay())
		}
		seen.Add(r.Seen)
	}
	for _, e := range seen.Missing() {
		if !seldom[e] && !underRace {
			t.Errorf("never seen: %v", e)
		}
	}
	t.Logf("seen:\n%v", seen)
}

// found says with which seeds planted bugs are found soon, to save time. A seed
// that does not find its bug any more costs only that the others are tried.
var found = map[Mutant]uint64{DropPending: 3, DropSessions: 3, LoseRelease: 2, KeepSuffix: 62, RejoinOld: 6, UnknownRefused: 4, DeafQuiet: 3}

// A simulation that finds nothing proves nothing: each planted bug must be
// found within 500 seeds.
func TestMutantsAreCaught(t *testing.T) {
	for _, m := range Mutants()[:few(len(Mutants()), 3)] {
		t.Run(string(m), func(t *testing.T) {
			caught := func(seed uint64) bool {
				r := run(t, Options{Seed: seed, Steps: *stepsFlag, Faults: DefaultFaults, Mutant: m})
				if r.Err != nil {
					t.Logf("found with seed %d: %.300v", seed, r.Err)
				}
				return r.Err != nil
			}
			if seed, ok := found[m]; ok && caught(seed) {
				return
			}
			for seed := uint64(1); seed <= 500; seed++ {
				if caught(seed) {
					return
				}
			}
			t.Error("not found within 500 seeds")
		})
	}
}
