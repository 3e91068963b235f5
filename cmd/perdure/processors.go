package main

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What processors goes by. The bounds leave room between what takes a server to one
// processor and what takes it back.
const (
	sampleEvery = 100 * time.Millisecond
	lightBurst  = 40 * time.Microsecond
	heavyBurst  = 80 * time.Microsecond
	idleLoad    = 0.02 // of one processor, as the next two
	lightLoad   = 0.8
	heavyLoad   = 0.9
	calmSamples = 5
	calmMost    = 600
	trySamples  = 300 // on one processor under load, until it is looked at again
)

// processors says when a server should run on one processor. The runtime wakes a
// second thread whenever something becomes ready while a processor is idle. Under
// single messages that thread finds nothing to do: each step takes microseconds and
// ends by waking the next. That waking costs a fifth of the processor time, and as
// much of what the publisher waits for where servers share a machine.
//
// A load is light if its bursts are short (the processor time between two waits of a
// thread) and one processor has time for all of it. Nobody then waits for another
// for longer than a wake-up takes.
type processors struct {
	one   bool
	calm  int // light samples on end, while not one
	need  int // how many it takes
	since int // samples since one was set
	held  int // samples before that, since one was taken back
}

// judge takes what the process used in the time since the last sample, and how often
// its threads waited. It reports whether to run on one processor.
func (p *processors) judge(elapsed, used time.Duration, waits int64) (one bool) {
	load := float64(used) / float64(max(elapsed, 1))
	burst := used / time.Duration(max(waits, 1))
	if p.one {
		p.since++
		switch {
		case load > heavyLoad || load > idleLoad && burst > heavyBurst:
			// What is light only on several processors must not go back and forth.
			p.need *= 2
			if p.held+p.since > calmMost {
				p.need = calmSamples
			}
			p.one, p.calm, p.held = false, 0, 0
		case load > idleLoad && p.since >= trySamples:
			// The processor may be full and not look it: a short wait for the disk
			// holds it, too, and counts as one between bursts.
			p.held += p.since
			p.one, p.calm = false, 0
		}
		return p.one
	}
	if load <= idleLoad || load > lightLoad || burst > lightBurst {
		p.calm = 0
		return false
	}
	p.need = min(max(p.need, calmSamples), calmMost)
	if p.calm++; p.calm >= p.need {
		p.one, p.since = true, 0
	}
	return p.one
}

// follow judges a sample every sampleEvery, and calls set when the answer changes and
// with false at the end, which is that of ctx or of what can be known.
func (p *processors) follow(ctx context.Context, used func() (usage, error), set func(one bool)) {
	last, err := used()
	at := time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
			continue
		case <-tick.C:
		}
		var u usage
		if u, err = used(); err != nil {
			continue
		}
		now, was := time.Now(), p.one
		if one := p.judge(now.Sub(at), u.cpu-last.cpu, u.waits-last.waits); one != was {
			set(one)
		}
		at, last = now, u
	}
	if p.one {
		set(false)
	}
}

// processorsSet says that somebody has decided. What the runtime ignores decides
// nothing.
func processorsSet(environ []string) bool {
	return slices.ContainsFunc(environ, func(v string) bool {
		value, _ := strings.CutPrefix(v, "GOMAXPROCS=")
		n, err := strconv.Atoi(value)
		return err == nil && n > 0
	})
}

// followLoad sets the number of processors by the load until ctx ends. Who sets
// GOMAXPROCS has decided.
func followLoad(ctx context.Context, log *slog.Logger, environ []string) {
	if runtime.GOMAXPROCS(0) == 1 || processorsSet(environ) {
		return
	}
	new(processors).follow(ctx, processUsage, func(one bool) {
		if one {
			runtime.GOMAXPROCS(1)
		} else {
			runtime.SetDefaultGOMAXPROCS()
		}
		log.Debug("processors follow the load", "processors", runtime.GOMAXPROCS(0))
	})
}

// usage is what a process has used since it began.
type usage struct {
	cpu   time.Duration
	waits int64 // times that a thread gave up its processor to wait
}

func processUsage() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	return usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), waits: int64(r.Nvcsw)}, nil
}
