package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/perdure/perdure/bench/limit/program"
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
	program.Main(peerName, run)
}

// options are what the flags say.
type options struct {
	program.Options
	publishers    int
	batch, window int
	segment       int64 // bytes of each server's file
}

func parse(args []string, progress io.Writer) (options, error) {
	o := options{segment: segmentSize}
	table := program.Table{
		Name: peerName, About: "Our figures beside those of the naked pipeline.",
		Only: "publish, publish/128/sync or publish_sync,1024", Quick: "three pairs of 2 s instead of five of 5 s",
		Known: slices.Concat(scenarios, durabilities, []string{peerName}),
	}
	for _, s := range sizes {
		table.Known = append(table.Known, strconv.Itoa(s))
	}
	var err error
	o.Options, err = table.Parse(args, progress, func(f *flag.FlagSet) {
		f.IntVar(&o.publishers, "publishers", 4, "publishers of scenario publish")
		f.IntVar(&o.batch, "batch", 64<<10, "bytes of a batch")
		f.IntVar(&o.window, "window", 8, "batches of a publisher that are not confirmed")
	})
	if err == nil && (o.publishers < 1 || o.batch < 1 || o.window < 1 || o.window > queued) {
		err = &program.UsageError{Err: fmt.Errorf("publishers, batch and window must be positive, and the window at most %d", queued)}
	}
	return o, err
}
