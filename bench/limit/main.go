package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/perdure/perdure/bench/limit/child"
	"github.com/perdure/perdure/bench/limit/ratio"
)

const (
	peerName = "limit"
	// serveWord is the first argument of a server.
	serveWord = "serve"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveWord {
		must(serve(os.Args[2:]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, leave := child.UnderGoRun(ctx)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	leave()
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	json          bool
	only          ratio.Selection
	runs          int
	warm, time    time.Duration
	publishers    int
	batch, window int
	segment       int64  // bytes of each server's file
	perdure       string // a binary; built unless given
	progress      io.Writer
}

func parse(args []string, progress io.Writer) (options, error) {
	o := options{segment: segmentSize, progress: progress}
	flags := flag.NewFlagSet("limit", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintln(progress, "usage: go run . [flags]\nOur figures beside those of the naked pipeline. README.md says what is compared.")
		flags.PrintDefaults()
	}
	format := flags.String("o", "table", "what to print: table or json")
	only := flags.String("only", "", "loads, such as publish, publish/128/sync or publish_sync,1024")
	quick := flags.Bool("quick", false, "three pairs of 2 s instead of five of 5 s")
	flags.IntVar(&o.runs, "runs", 5, "alternating pairs of runs")
	seconds := flags.Float64("seconds", 5, "seconds of a run, after a warm-up of two fifths, 2 s at most")
	flags.IntVar(&o.publishers, "publishers", 4, "publishers of scenario publish")
	flags.IntVar(&o.batch, "batch", 64<<10, "bytes of a batch")
	flags.IntVar(&o.window, "window", 8, "batches of a publisher that are not confirmed")
	flags.StringVar(&o.perdure, "perdure", "", "binary of perdure; built from this repository unless given")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if *quick && !set["runs"] {
		o.runs = 3
	}
	if *quick && !set["seconds"] {
		*seconds = 2
	}
	o.json = *format == "json"
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case *format != "json" && *format != "table":
		return o, fmt.Errorf("-o %s: it must be table or json", *format)
	case o.runs < 1 || *seconds <= 0 || o.publishers < 1 || o.batch < 1 || o.window < 1 || o.window > queued:
		return o, fmt.Errorf("runs, seconds, publishers, batch and window must be positive, and the window at most %d", queued)
	}
	o.time = time.Duration(*seconds * float64(time.Second))
	o.warm = min(o.time*2/5, 2*time.Second)
	known := slices.Concat(scenarios, durabilities, []string{peerName})
	for _, s := range sizes {
		known = append(known, strconv.Itoa(s))
	}
	var err error
	o.only, err = ratio.ParseSelection(*only, known)
	return o, err
}
