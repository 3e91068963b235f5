package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A load per second: processor time and waits.
type second struct {
	cpu   time.Duration
	waits int64
}

var (
	idle   = second{10 * time.Millisecond, 100}
	single = second{600 * time.Millisecond, 26_000}  // a leader, one publisher, message by message
	bulk   = second{310 * time.Millisecond, 4_200}   // a follower, four publishers of 16 KiB
	full   = second{950 * time.Millisecond, 30_000}  // short bursts, and more than one processor has time for
	wide   = second{1700 * time.Millisecond, 60_000} // the same on two
	heavy  = second{950 * time.Millisecond, 2_000}   // long bursts
	mixed  = second{500 * time.Millisecond, 10_000}  // between light and heavy
)

func TestProcessorsFollowLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		loads []second // one for each sample
		want  string   // for each sample, 1 for one processor
	}{
		{"idle", slices.Repeat([]second{idle}, 12), "------------"},
		{"single messages", slices.Repeat([]second{single}, 8), "----1111"},
		{"bulk is shared, however little", slices.Repeat([]second{bulk}, 12), "------------"},
		{"too much for one", slices.Repeat([]second{wide}, 12), "------------"},
		{"long bursts", slices.Repeat([]second{heavy}, 12), "------------"},
		{"neither keeps what is", append(slices.Repeat([]second{single}, 5), mixed, idle, mixed), "----1111"},
		{"neither does not begin", slices.Repeat([]second{mixed}, 12), "------------"},
		{"calm is on end", append(slices.Repeat([]second{single}, 4), idle, single, single, single, single, single), "---------1"},
		{"bulk comes", append(slices.Repeat([]second{single}, 6), bulk, heavy), "----111-"},
		{"full", append(slices.Repeat([]second{single}, 6), full), "----11-"},
		// Under load it is looked at again, without load when some comes.
		{
			"again", slices.Concat(slices.Repeat([]second{single}, 4+trySamples+6), slices.Repeat([]second{idle}, 2*trySamples), []second{single, single}),
			"----" + strings.Repeat("1", trySamples) + "-----" + strings.Repeat("1", 1+2*trySamples) + "--",
		},
		{
			"full does not look it on one", slices.Concat(slices.Repeat([]second{single}, 5), slices.Repeat([]second{mixed}, trySamples+1)),
			"----" + strings.Repeat("1", trySamples) + "--",
		},
		// Taken back, it must hold for twice as long.
		{"back and forth", slices.Concat(slices.Repeat([]second{single}, 6), []second{full}, slices.Repeat([]second{single}, 11)), "----11----------11"},
	} {
		var p processors
		got := ""
		for _, l := range c.loads {
			if p.judge(time.Second, l.cpu, l.waits) {
				got += "1"
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// After a minute on one processor, being taken back says nothing about the load before.
func TestProcessorsForget(t *testing.T) {
	t.Parallel()
	var p processors
	samples := func(l second) (n int) {
		for was := p.one; p.one == was && n < 2*calmMost; n++ {
			p.judge(time.Second, l.cpu, l.waits)
		}
		return n
	}
	for _, want := range []int{5, 10, 20, 40, 80, 160, 320, 600, 600} {
		if n := samples(single); n != want {
			t.Fatalf("one processor after %d samples, want %d", n, want)
		}
		samples(full)
	}
	samples(single)
	for range calmMost {
		p.judge(time.Second, idle.cpu, idle.waits)
	}
	samples(full)
	if n := samples(single); n != calmSamples {
		t.Errorf("one processor after %d samples, want %d", n, calmSamples)
	}
}

func TestProcessorsAreSampled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		told := ""
		tell := func(one bool) { told += fmt.Sprintf("%s %t\n", time.Since(began), one) }
		var u usage
		used := func() (usage, error) { // single messages for a second, then one long burst
			u.cpu += 60 * time.Millisecond
			if u.waits += 2600; time.Since(began) > time.Second {
				u.waits -= 2590
			}
			return u, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		new(processors).follow(ctx, used, tell)
		if want := "500ms true\n1.1s false\n"; told != want {
			t.Errorf("told %q, want %q", told, want)
		}
		// Whatever ends it, the server has all its processors.
		told, began = "", time.Now()
		broken := errors.New("broken")
		new(processors).follow(t.Context(), func() (usage, error) {
			if time.Since(began) > 800*time.Millisecond {
				return usage{}, broken
			}
			return used()
		}, tell)
		if want := "500ms true\n900ms false\n"; told != want {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// Bursts of this process are counted: whoever waits more often has shorter ones.
func TestProcessUsage(t *testing.T) {
	before, err := processUsage()
	if err != nil {
		t.Fatal(err)
	}
	there, back := make(chan int), make(chan int)
	go func() {
		defer close(back)
		runtime.LockOSThread() // each hand-over is one between threads
		for n := range there {
			back <- n
		}
	}()
	for n := range 1000 {
		there <- n
		<-back
	}
	close(there)
	<-back
	after, err := processUsage()
	if err != nil {
		t.Fatal(err)
	}
	if after.cpu <= before.cpu || after.waits < before.waits+1000 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestProcessorsSet(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"GOMAXPROCS=2": true, "GOMAXPROCS=1": true, "GOMAXPROCS=": false, "GOMAXPROCS=abc": false, "GOMAXPROCS=-1": false, "XGOMAXPROCS=2": false,
	} {
		if got := processorsSet([]string{"PATH=/bin", v}); got != want {
			t.Errorf("%s: %t", v, got)
		}
	}
}
