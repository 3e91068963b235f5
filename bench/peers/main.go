package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/perdure/perdure/bench/limit/program"
)

func main() {
	if served, err := serve(os.Args[1:]); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, "peers: server:", err)
			os.Exit(1)
		}
		return
	}
	program.Main("peers", run)
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
	program.Options
	trial  time.Duration // of a run that looks for the best path
	trials int           // of each path
}

func parse(args []string, progress io.Writer) (options, error) {
	table := program.Table{
		Name: "peers", About: "Our figures beside those of NATS JetStream and etcd.",
		Only:  "publish, nats/publish/128/async or drain,drain_shared4",
		Quick: "three pairs of 2 s instead of five of 5 s, a warm-up of a fourth, and smaller backlogs",
		Known: slices.Concat(peerNames, durabilities),
	}
	for _, s := range scenarios() {
		table.Known = append(table.Known, s.name)
	}
	for _, s := range sizes {
		table.Known = append(table.Known, strconv.Itoa(s))
	}
	common, err := table.Parse(args, progress, nil)
	o := options{Options: common, trials: 2}
	if o.Quick {
		o.trials, o.Warm = 1, o.Time/4
	}
	o.trial = o.Time * 3 / 5
	return o, err
}
