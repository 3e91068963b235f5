package program

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/bench/limit/ratio"
)

func TestParse(t *testing.T) {
	table := Table{Name: "x", About: "All of it.", Only: "a/b", Quick: "less", Known: []string{"publish", "128"}}
	parse := func(args ...string) Options {
		t.Helper()
		o, err := table.Parse(args, io.Discard, nil)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return o
	}
	for _, tc := range []struct {
		args       []string
		runs       int
		time, warm time.Duration
		json       bool
	}{
		{nil, 5, 5 * time.Second, 2 * time.Second, false},
		{[]string{"--quick", "-o", "json"}, 3, 2 * time.Second, 800 * time.Millisecond, true},
		{[]string{"--quick", "--runs", "7", "--seconds", "10"}, 7, 10 * time.Second, 2 * time.Second, false},
	} {
		if o := parse(tc.args...); o.Runs != tc.runs || o.Time != tc.time || o.Warm != tc.warm || o.JSON != tc.json {
			t.Errorf("%v: %+v", tc.args, o)
		}
	}
	if o := parse("--only", "publish/128"); o.Only.Wants(ratio.Load{Scenario: "publish", Size: 1024}, "limit") {
		t.Error("--only publish/128 wants 1 KiB")
	}
	for _, bad := range [][]string{{"-o", "csv"}, {"--only", "rabbit"}, {"--runs", "0"}, {"--seconds", "-1"}, {"word"}} {
		if _, err := table.Parse(bad, io.Discard, nil); code(err) != 2 {
			t.Errorf("%v: %v, ends with %d", bad, err, code(err))
		}
	}
	var help bytes.Buffer
	n := 0
	_, err := table.Parse([]string{"-h"}, &help, func(f *flag.FlagSet) { f.IntVar(&n, "more", 7, "of its own") })
	if !errors.Is(err, flag.ErrHelp) || code(err) != 0 || !strings.Contains(help.String(), "All of it. README.md") || !strings.Contains(help.String(), "-more") {
		t.Errorf("%v: %s", err, &help)
	}
}

// TestEnvironment: a flag's twin counts as the flag, and the flag goes first.
func TestEnvironment(t *testing.T) {
	table := Table{Name: "x"}
	t.Setenv("X_QUICK", "true")
	t.Setenv("X_RUNS", "4")
	t.Setenv("X_SECONDS", "7")
	o, err := table.Parse([]string{"-seconds", "9"}, io.Discard, nil)
	if err != nil || !o.Quick || o.Runs != 4 || o.Time != 9*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv("X_RUNS", "many")
	if _, err := table.Parse(nil, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "X_RUNS") {
		t.Errorf("%v", err)
	}
}

func TestCode(t *testing.T) {
	for want, err := range []error{nil, errors.New("broken"), errors.Join(&UsageError{errors.New("-x")})} {
		if got := code(err); got != want {
			t.Errorf("%v ends with %d, want %d", err, got, want)
		}
	}
}

// TestPrint: what was measured before it ended is printed, and that it is not all.
func TestPrint(t *testing.T) {
	rows := []ratio.Row{{Load: ratio.Load{Scenario: "publish", Size: 128, Durability: "async"}, Unit: ratio.P99, Ours: 1, Peer: 2, Ratio: 0.5}}
	var out bytes.Buffer
	if err := (Options{}).Print(t.Context(), &out, rows, []error{nil}); err != nil || !strings.Contains(out.String(), "publish") {
		t.Errorf("%v: %s", err, &out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out.Reset()
	broken := errors.New("broken")
	err := Options{JSON: true}.Print(ctx, &out, rows, []error{broken})
	if !errors.Is(err, broken) || !errors.Is(err, context.Canceled) || !strings.HasPrefix(out.String(), "[\n{") {
		t.Errorf("%v: %s", err, &out)
	}
}
