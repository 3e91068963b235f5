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

func main() {
	if served, err := serve(os.Args[1:]); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, "peers: server:", err)
			os.Exit(1)
		}
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
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// serve is the program as a server, if that is what its arguments say.
func serve(args []string) (served bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	switch args[0] {
	case natsWord:
		return true, serveNATS(args[1:])
	case etcdWord:
		return true, serveEtcd(args[1:])
	}
	return false, nil
}

// options are what the flags say.
type options struct {
	json       bool
	only       ratio.Selection
	quick      bool
	runs       int           // alternating pairs
	warm, time time.Duration // of a run
	trial      time.Duration // of a run that looks for the best path
	trials     int           // of each path
	perdure    string        // a binary; built unless given
	progress   io.Writer
}

func parse(args []string, progress io.Writer) (options, error) {
	o := options{progress: progress}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintln(progress, "usage: go run . [flags]\nOur figures beside those of NATS JetStream and etcd. README.md says what is compared.")
		flags.PrintDefaults()
	}
	format := flags.String("o", "table", "what to print: table or json")
	only := flags.String("only", "", "loads, such as publish, nats/publish/128/async or drain,drain_shared4")
	flags.BoolVar(&o.quick, "quick", false, "three pairs of 2 s instead of five of 5 s, and smaller backlogs")
	flags.IntVar(&o.runs, "runs", 5, "alternating pairs of runs")
	seconds := flags.Float64("seconds", 5, "seconds of a run, after a warm-up of two fifths, 2 s at most; of a fourth with -quick")
	flags.StringVar(&o.perdure, "perdure", "", "binary of perdure; built from this repository unless given")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.trials = 2
	if o.quick {
		o.trials = 1
		if !set["runs"] {
			o.runs = 3
		}
		if !set["seconds"] {
			*seconds = 2
		}
	}
	o.json = *format == "json"
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case *format != "json" && *format != "table":
		return o, fmt.Errorf("-o %s: it must be table or json", *format)
	case o.runs < 1 || *seconds <= 0:
		return o, errors.New("runs and seconds must be positive")
	}
	o.time = time.Duration(*seconds * float64(time.Second))
	o.warm = min(o.time*2/5, 2*time.Second)
	if o.quick {
		o.warm = o.time / 4
	}
	o.trial = o.time * 3 / 5
	known := slices.Concat(peerNames, durabilities)
	for _, s := range scenarios() {
		known = append(known, s.name)
	}
	for _, s := range sizes {
		known = append(known, strconv.Itoa(s))
	}
	var err error
	o.only, err = ratio.ParseSelection(*only, known)
	return o, err
}
