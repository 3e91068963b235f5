package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/message/portable"
	"github.com/perdure/perdure/realm"
)

// importResult is what `store import -o json` prints.
type importResult struct {
	Cluster string `json:"cluster"`
	pubResult
	Skipped int `json:"skipped"`
}

// importCheck is what `store import --dry-run -o json` prints.
type importCheck struct {
	Valid    bool `json:"valid"`
	Messages int  `json:"messages"`
}

// importOptions are the flags of an import.
type importOptions struct {
	format  portable.Format
	session string // of the file; "" is the usual one
	again   bool
	dryRun  bool
	flags   string // to be given again by who goes on
}

func (p *program) storeImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import CLUSTER STORE {FILE | -}",
		Short: "Publish the messages of a file into a store",
		Long: "Publishes what export printed, in order, through the store's endpoint, and waits until all is\n" +
			"confirmed; - is standard input. CSV may have other columns: each is a field, a string or what\n" +
			"its name says, as in delay:int64. With --format objects the members of each JSON object are\n" +
			"the fields. Lines that are wrong end it before anything of them is published.\n\n" +
			"An import that published something and ends early, or is killed, leaves a file, FILE.import, or the\n" +
			"one that --session names. The same command goes on then: under the same publisher session,\n" +
			"so that nothing is stored twice. The servers know that session for an hour. After that, --again\n" +
			"goes on behind what was confirmed; what was on its way then may be stored twice.",
		Example: "  perdure store import main flights flights.jsonl\n" +
			"  perdure store import main flights flights.csv -o json\n" +
			"  perdure store import main flights flights.csv --dry-run\n" +
			"  perdure store import main flights - --format csv --session flights.import < flights.csv",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return usagef(cmd, "CLUSTER, STORE and FILE are wanted, %d given", len(args))
			}
			return nil
		},
		ValidArgsFunction: p.completeStore,
	}
	var o importOptions
	conn := connectionFlags(cmd)
	format := cmd.Flags().String("format", "", "jsonl, csv or objects; else as the name of FILE ends, or jsonl")
	cmd.Flags().StringVar(&o.session, "session", "", "file that says how far it came; FILE.import unless given, none for -")
	cmd.Flags().BoolVar(&o.again, "again", false, "go on though the publisher session is gone")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only read, and say whether all lines are right")
	output := outputFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"jsonl", "csv", "objects"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := conn.check(cmd); err != nil {
			return err
		}
		if o.format, err = importFormat(cmd, *format, args[2]); err != nil {
			return err
		}
		in := importInput{name: "stdin", reader: p.stdin, close: func() error { return nil }}
		if args[2] != "-" {
			f, err := os.Open(args[2])
			if err != nil {
				return err
			}
			in = importInput{name: args[2], reader: f, close: f.Close}
			if o.session == "" {
				o.session = args[2] + ".import"
			}
		}
		defer func() { _ = in.close() }() // it was only read
		o.flags = importFlags(cmd)
		if o.dryRun {
			return p.checkImport(cmd.Context(), in, o, *output)
		}
		return p.importStore(cmd.Context(), conn, args[0], args[1], in, o, *output)
	}
	return cmd
}

func importFormat(cmd *cobra.Command, given, file string) (portable.Format, error) {
	switch f := portable.Format(given); f {
	case portable.JSONLines, portable.CSV, portable.Objects:
		return f, nil
	case "":
		if strings.EqualFold(filepath.Ext(file), ".csv") {
			return portable.CSV, nil
		}
		return portable.JSONLines, nil
	}
	return "", usagef(cmd, "--format %q: it must be jsonl, csv or objects", given)
}

// importFlags returns the flags that who goes on has to give again.
func importFlags(cmd *cobra.Command) string {
	var b strings.Builder
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, there := f.Annotations[fromVariable]; there || f.Name == "again" || f.Name == "output" {
			return
		}
		fmt.Fprintf(&b, " --%s %s", f.Name, word(f.Value.String()))
	})
	return b.String()
}

// checkImport reads the whole input and publishes nothing.
func (p *program) checkImport(ctx context.Context, in importInput, o importOptions, output format) error {
	n := 0
	err := newBatcher(in.name, in.reader, o.format, message.HardMaxMessageSize).each(ctx, func(b *importBatch) error {
		n += len(b.messages)
		return nil
	})
	if err != nil {
		return err
	}
	if output == formatJSON {
		return p.writeJSON(p.stdout, importCheck{Valid: true, Messages: n})
	}
	_, err = fmt.Fprintf(p.stdout, "%s: valid: %s\n", in.name, countOf(n, "message"))
	return err
}

// importTarget is where an import goes.
type importTarget struct {
	cluster, store, endpoint string
	maxMessage               int
}

// findTarget looks for the store's endpoint in the newest definition.
func findTarget(ctx context.Context, c *client.Client, cluster, store string) (*importTarget, error) {
	found, err := c.Admin().GetRealm(ctx, 0)
	if err != nil {
		return nil, err
	}
	r, err := realm.Parse("", found.Document)
	if err != nil {
		return nil, err
	}
	in := r.Cluster(cluster)
	if in == nil {
		return nil, failuref("NO_SUCH_CLUSTER", "the realm has no cluster %q", cluster)
	}
	t := &importTarget{cluster: cluster, store: store, maxMessage: -1}
	for _, s := range in.Stores {
		if s.Name == store {
			t.maxMessage = int(s.MaxMessageSize)
		}
	}
	if t.maxMessage < 0 {
		return nil, failuref("NO_SUCH_STORE", "cluster %q has no store %q", cluster, store)
	}
	for _, e := range r.Endpoints {
		if e.Store == store {
			t.endpoint = e.Name
			return t, nil
		}
	}
	return nil, failuref("NO_SUCH_ENDPOINT", "no endpoint leads to store %q: the realm must have one to publish through", store)
}

// importStore publishes an input, or what of it is not published yet.
func (p *program) importStore(ctx context.Context, conn *connection, cluster, store string, in importInput, o importOptions, output format) error {
	session, err := readImportSession(o.session)
	if err != nil {
		return err
	}
	defer session.close()
	c, err := conn.open(ctx, "store import")
	if err != nil {
		return err
	}
	finished := false
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if !finished {
			cancel() // what is on its way is known not to be known
		}
		_ = c.Close(closing)
	}()
	target, err := findTarget(ctx, c, cluster, store)
	if err != nil {
		return err
	}
	run := &importing{p: p, in: in, o: o, target: target, session: session, timeout: conn.timeout}
	begun := session.begun()
	if err := run.open(ctx, c); err != nil {
		return err
	}
	if err := run.publish(ctx); err != nil {
		if !begun && run.tally.published() == 0 {
			err = errors.Join(err, session.done()) // there is nothing to go on with
		}
		return &partly{err, run.progress()}
	}
	finished = true
	if err := session.done(); err != nil {
		return err
	}
	return p.printImported(run, output)
}

// completeStore completes the name of a cluster, then of one of its stores.
func (p *program) completeStore(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return p.completeCluster(cmd, nil, prefix)
	case 1:
		return p.complete(cmd, nil, prefix, func(r *realm.Realm) (names []string) {
			if c := r.Cluster(args[0]); c != nil {
				for _, s := range c.Stores {
					names = append(names, s.Name)
				}
			}
			return names
		})
	}
	return nil, cobra.ShellCompDirectiveDefault
}
