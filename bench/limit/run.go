package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// run is the program. An error of one load is told at the end: it does not cost
// the others.
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
	for _, durability := range durabilities {
		loads := o.loads(durability)
		if len(loads) == 0 || ctx.Err() != nil {
			continue
		}
		more, err := o.compare(ctx, perdure{binary}, durability, loads)
		rows = append(rows, more...)
		failed = append(failed, err)
	}
	return o.Print(ctx, out, rows, failed)
}

// compare measures the loads of one durability against one pipeline.
func (o options) compare(ctx context.Context, us perdure, durability string, loads []load) ([]ratio.Row, error) {
	p, err := startPipeline(ctx, o.segment, durability == "sync")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	var rows []ratio.Row
	var failed []error
	for _, l := range loads {
		if ctx.Err() != nil {
			break // run says so, once
		}
		a, b, err := ratio.Alternate(ctx, o.Runs,
			o.tell("perdure", l, us.run), o.tell(peerName, l, p.run))
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			failed = append(failed, fmt.Errorf("%v: %w", l.Load, err))
			continue
		}
		more, err := ratio.Rows(l.Load, peerName, a, b)
		rows = append(rows, more...)
		failed = append(failed, err)
	}
	return rows, errors.Join(failed...)
}

// tell runs one side, and says on the way what came out.
func (o options) tell(who string, l load, run func(context.Context, load) (ratio.Figures, error)) ratio.Run {
	return func(ctx context.Context) (ratio.Figures, error) {
		f, err := run(ctx, l)
		if err == nil {
			fmt.Fprintf(o.Progress, "%v %s: %v\n", l.Load, who, f)
		}
		return f, err
	}
}
