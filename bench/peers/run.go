package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// run is the program. An error of one comparison is told at the end: it does not
// cost the others.
func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	binary, err := ours.Open(ctx, o.Perdure)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, binary.Close()) }()
	var rows []ratio.Row
	var failed []error
	for _, peer := range []system{&natsPeer{}, &etcdPeer{}} {
		more, err := o.compare(ctx, perdure{binary}, peer)
		rows = append(rows, more...)
		failed = append(failed, err)
	}
	return o.Print(ctx, out, rows, failed)
}

// comparison is a load of a scenario against a peer.
type comparison struct {
	scenario scenario
	load     load
}

// comparisons are those with a peer that are wanted, one durability after the
// other.
func (o options) comparisons(peer string) []comparison {
	var all []comparison
	for _, durability := range durabilities {
		for _, s := range scenarios() {
			if !slices.Contains(s.peers[peer], durability) {
				continue
			}
			for _, size := range sizes {
				l := load{
					Load: ratio.Load{Scenario: s.name, Size: size, Durability: durability},
					warm: o.Warm, time: o.Time,
				}
				if s.set(&l, o.Quick); o.Only.Wants(l.Load, peer) {
					all = append(all, comparison{s, l})
				}
			}
		}
	}
	return all
}

// compare measures everything that is wanted against one peer.
func (o options) compare(ctx context.Context, us, peer system) ([]ratio.Row, error) {
	defer us.close()
	defer peer.close()
	var rows []ratio.Row
	var failed []error
	all := o.comparisons(peer.name())
	began := time.Now()
	for i, c := range all {
		if ctx.Err() != nil {
			break // run says so, once
		}
		fmt.Fprintf(o.Progress, "%s %d of %d, after %v: %v\n", peer.name(), i+1, len(all), time.Since(began).Round(time.Second), c.load.Load)
		more, err := o.measure(ctx, c, us, peer)
		rows = append(rows, more...)
		if err != nil && ctx.Err() == nil {
			failed = append(failed, fmt.Errorf("%v against %s: %w", c.load.Load, peer.name(), err))
		}
	}
	return rows, errors.Join(failed...)
}

// measure finds the best path of either side and lets them take turns.
func (o options) measure(ctx context.Context, c comparison, us, peer system) ([]ratio.Row, error) {
	a, err := o.best(ctx, c, us)
	if err != nil {
		return nil, err
	}
	b, err := o.best(ctx, c, peer)
	if err != nil {
		return nil, err
	}
	mine, theirs, err := ratio.Alternate(ctx, o.Runs, o.tell(c, us, a), o.tell(c, peer, b))
	if err != nil {
		return nil, err
	}
	rows, err := ratio.Rows(c.load.Load, peer.name(), mine, theirs)
	for i := range rows {
		rows[i].OursPath, rows[i].PeerPath = a.Name, b.Name
	}
	return rows, err
}

// best returns the fastest path of a system, found in short trials.
func (o options) best(ctx context.Context, c comparison, s system) (ratio.Path, error) {
	short := c.load
	short.time = o.trial
	trials := s.paths(short)
	for i := range trials {
		trials[i].Run = o.say(s.name()+" tries "+trials[i].Name, trials[i].Run)
	}
	found, err := ratio.Best(ctx, o.trials, ratio.MsgsPerSecond, trials)
	if err != nil {
		return ratio.Path{}, fmt.Errorf("%s: %w", s.name(), err)
	}
	for _, p := range s.paths(c.load) {
		if p.Name == found.Name {
			return p, nil
		}
	}
	return ratio.Path{}, fmt.Errorf("%s has no path %s", s.name(), found.Name)
}

// tell is one side's run: what the scenario asks for, once more if it fails.
func (o options) tell(c comparison, s system, p ratio.Path) ratio.Run {
	once := func(ctx context.Context) (ratio.Figures, error) {
		f, err := p.Run(ctx)
		if err != nil {
			return nil, err
		}
		return c.scenario.only(f)
	}
	said := o.say(s.name()+", "+p.Name, once)
	return func(ctx context.Context) (ratio.Figures, error) {
		f, err := said(ctx)
		if err == nil || ctx.Err() != nil {
			return f, err
		}
		return said(ctx)
	}
}

// say tells what came out of a run.
func (o options) say(who string, run ratio.Run) ratio.Run {
	return func(ctx context.Context) (ratio.Figures, error) {
		f, err := run(ctx)
		if err != nil {
			fmt.Fprintf(o.Progress, "  %s failed: %v\n", who, err)
			return nil, err
		}
		fmt.Fprintf(o.Progress, "  %s: %v\n", who, f)
		return f, nil
	}
}
