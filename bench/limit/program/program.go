package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/perdure/perdure/bench/limit/child"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// Main runs a program and ends the process if it fails. Its context ends with
// Ctrl-C, and with go run where that has started it.
func Main(name string, run func(ctx context.Context, args []string, out, progress io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, leave := child.UnderGoRun(ctx)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	leave()
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(code(err))
}

// A UsageError says that flags were given that cannot be meant.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// code is what a program ends with, as perdure does: 0, done; 1, failed; 2, asked
// wrongly.
func code(err error) int {
	var usage *UsageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

// Table is what is said of a program's flags.
type Table struct {
	Name  string
	About string   // in a sentence
	Only  string   // examples of -only
	Quick string   // what -quick does
	Known []string // words of -only
}

// Options are what the flags say.
type Options struct {
	JSON       bool
	Only       ratio.Selection
	Quick      bool
	Runs       int           // alternating pairs
	Warm, Time time.Duration // of a run: before the clock runs, and while it does
	Perdure    string        // a binary; built unless given
	Progress   io.Writer
}

// Parse reads the flags. more declares those that only this program has; it may
// be nil. An error is flag.ErrHelp or a *UsageError.
func (t Table) Parse(args []string, progress io.Writer, more func(*flag.FlagSet)) (Options, error) {
	o, err := t.parse(args, progress, more)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		err = &UsageError{err}
	}
	return o, err
}

func (t Table) parse(args []string, progress io.Writer, more func(*flag.FlagSet)) (Options, error) {
	o := Options{Progress: progress}
	flags := flag.NewFlagSet(t.Name, flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintf(progress, "usage: go run . [flags]\n%s README.md says what is compared.\nEach flag can be set in the environment, as %s.\n", t.About, t.variable("runs"))
		flags.PrintDefaults()
	}
	format := flags.String("o", "table", "what to print: table or json")
	only := flags.String("only", "", "loads, such as "+t.Only)
	flags.BoolVar(&o.Quick, "quick", false, t.Quick)
	flags.IntVar(&o.Runs, "runs", 5, "alternating pairs of runs")
	seconds := flags.Float64("seconds", 5, "seconds of a run, after a warm-up of two fifths of that, 2 s at most")
	flags.StringVar(&o.Perdure, "perdure", "", "binary of perdure; built from this repository unless given")
	if more != nil {
		more(flags)
	}
	if err := t.fromEnvironment(flags); err != nil {
		return o, err
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.Quick && !set["runs"] {
		o.Runs = 3
	}
	if o.Quick && !set["seconds"] {
		*seconds = 2
	}
	o.JSON = *format == "json"
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case *format != "json" && *format != "table":
		return o, fmt.Errorf("-o %s: it must be table or json", *format)
	case o.Runs < 1 || *seconds <= 0:
		return o, errors.New("runs and seconds must be positive")
	}
	o.Time = time.Duration(*seconds * float64(time.Second))
	o.Warm = min(o.Time*2/5, 2*time.Second)
	var err error
	o.Only, err = ratio.ParseSelection(*only, t.Known)
	return o, err
}

// variable is a flag's twin in the environment.
func (t Table) variable(flag string) string { return strings.ToUpper(t.Name + "_" + flag) }

// fromEnvironment sets the flags whose twins are set.
func (t Table) fromEnvironment(flags *flag.FlagSet) (err error) {
	flags.VisitAll(func(f *flag.Flag) {
		name := t.variable(f.Name)
		value, set := os.LookupEnv(name)
		if !set {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = errors.Join(err, fmt.Errorf("%s=%q: %w", name, value, e))
		}
	})
	return err
}

// Print writes the rows that there are, and returns what has failed.
func (o Options) Print(ctx context.Context, out io.Writer, rows []ratio.Row, failed []error) error {
	if ctx.Err() != nil {
		failed = append(failed, fmt.Errorf("%w: the table is not whole", context.Cause(ctx)))
	}
	write := ratio.WriteTable
	if o.JSON {
		write = ratio.WriteJSON
	}
	return errors.Join(append(failed, write(out, rows))...)
}
