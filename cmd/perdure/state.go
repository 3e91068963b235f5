package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/store/statefile"
)

func (p *program) stateCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "state",
		Short: "Look into files of saved states, without a server",
		Long: "A state file holds the stores of a cluster with their messages, and what every durable and\n" +
			"every publisher session still knows of them. It is read from its first byte to its last, and\n" +
			"checked, before anything of it is shown, but by inspect.",
		Example: "  perdure state inspect main.state\n" +
			"  perdure state verify main.state\n" +
			"  perdure state diff main.state main.state.backup",
	})
	cmd.AddCommand(p.stateInspectCommand(), p.stateVerifyCommand(), p.stateDiffCommand(), p.stateExportCommand())
	return cmd
}

// watched ends reading when ctx does.
type watched struct {
	ctx context.Context
	in  io.Reader
}

func (w watched) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.in.Read(b)
}

// stateFile is a file that was opened to be read once or twice.
type stateFile struct {
	ctx context.Context
	*os.File
}

func openState(ctx context.Context, name string) (*stateFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	return &stateFile{ctx, f}, nil
}

// start returns a reader from the first byte on.
func (f *stateFile) start() (io.Reader, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("state file: it is read twice, and must be a file: %w", err)
	}
	return bufio.NewReaderSize(watched{f.ctx, f.File}, 1<<20), nil
}

// verify reads the whole file.
func (f *stateFile) verify() (*statefile.Manifest, statefile.Totals, error) {
	in, err := f.start()
	if err != nil {
		return nil, statefile.Totals{}, err
	}
	m, totals, err := statefile.Verify(in, nil)
	if err != nil {
		err = fmt.Errorf("%s: %w", f.Name(), err)
	}
	return m, totals, err
}

func (p *program) stateInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a file says it holds",
		Long: "Reads the manifest at the beginning of the file and nothing else. That what it says is true,\n" +
			"verify finds out.",
		Example: "  perdure state inspect main.state\n  perdure state inspect main.state -o json",
		Args:    oneArg("FILE"),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := openState(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer f.Close() // it was only read
		in, err := f.start()
		if err != nil {
			return err
		}
		r, err := statefile.NewReader(in)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if *output == formatJSON {
			return p.writeJSON(p.stdout, r.Manifest())
		}
		p.printManifest(r.Manifest())
		return nil
	}
	return cmd
}

// shown returns a text of a file that nobody has checked as a terminal may have it.
func shown(text string) string {
	if quoted := strconv.Quote(text); quoted[1:len(quoted)-1] != text {
		return quoted
	}
	return text
}

func (p *program) printManifest(m *statefile.Manifest) {
	fmt.Fprintf(p.stdout, "cluster %s, realm revision %d, entry %s of term %d, %s\n", shown(m.Cluster), m.Revision, grouped(m.Applied), m.Term,
		time.Unix(0, m.Time).UTC().Format(time.RFC3339))
	fmt.Fprintf(p.stdout, "state hash %s\n%s, the last is %d\n\n", shown(m.StateHash), countOf(int(m.Sessions), "publisher session"), m.LastSession)
	var stores, durables [][]any
	for _, s := range m.Stores {
		stores = append(stores, []any{shown(s.Name), grouped(s.Batches), grouped(s.Messages), bytesText(s.Bytes), s.LastID})
		for _, d := range s.Durables {
			kind := shown(d.Kind)
			if d.Dynamic {
				kind += ", dynamic"
			}
			durables = append(durables, []any{shown(s.Name), shown(d.Name), kind, grouped(d.Pending), grouped(d.Matched), grouped(d.Acked)})
		}
	}
	printTable(p.stdout, []string{"store", "batches", "messages", "size", "last id"}, stores)
	fmt.Fprintln(p.stdout)
	printTable(p.stdout, []string{"store", "durable", "kind", "pending", "matched", "acked"}, durables)
}

func (p *program) stateVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check every byte of a file",
		Long: "Reads the whole file: every checksum, every record, every message, and whether they are what\n" +
			"the manifest says. Ends with 1 if anything is wrong, and says where.",
		Example: "  perdure state verify main.state\n  perdure state verify main.state -o json",
		Args:    oneArg("FILE"),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := openState(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer f.Close() // it was only read
		m, totals, err := f.verify()
		if err != nil {
			return err
		}
		batches, messages, bytes, pending := m.Totals()
		if *output == formatJSON {
			return p.writeJSON(p.stdout, stateVerified{
				Valid: true, StateHash: m.StateHash, Totals: totals,
				Stores: len(m.Stores), Batches: batches, Messages: messages, Bytes: bytes, Pending: pending,
			})
		}
		fmt.Fprintf(p.stdout, "%s: valid: %s, %s messages in %s batches of %s, %s pending, %s in %s; state hash %s\n",
			args[0], countOf(len(m.Stores), "store"), grouped(messages), grouped(batches), bytesText(bytes), grouped(pending),
			bytesText(uint64(totals.Size)), countOf(int(totals.Blocks), "block"), m.StateHash)
		return nil
	}
	return cmd
}

// stateVerified is what `state verify -o json` prints.
type stateVerified struct {
	Valid     bool   `json:"valid"`
	StateHash string `json:"state_hash"`
	Stores    int    `json:"stores"`
	Batches   uint64 `json:"batches"`
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"`
	Pending   uint64 `json:"pending"`
	statefile.Totals
}

// stateDiff is what `state diff -o json` prints.
type stateDiff struct {
	Equal       bool                   `json:"equal"`
	More        bool                   `json:"more"`
	Differences []statefile.Difference `json:"differences"`
}

func (p *program) stateDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what two files do not have in common",
		Long: "Compares the states in two files by the names of stores and durables: ids, pending sets,\n" +
			"delivery counts, publisher sessions and messages. When and by whom they were saved is no\n" +
			"difference. Ends with 1 if there is any.",
		Example: "  perdure state diff main.state main.state.backup\n" +
			"  perdure state diff before.state after.state --limit 1000 -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd, "two files are compared, %d given", len(args))
			}
			return nil
		},
	}
	limit := cmd.Flags().Int("limit", 50, "show at most so many differences")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 1 {
			return usagef(cmd, "--limit %d: it must be 1 or more", *limit)
		}
		result := stateDiff{Differences: []statefile.Difference{}}
		var sides [2]io.Reader
		for i, name := range args {
			f, err := openState(cmd.Context(), name)
			if err != nil {
				return err
			}
			defer f.Close() // it was only read
			if _, _, err = f.verify(); err != nil {
				return err
			}
			if sides[i], err = f.start(); err != nil {
				return err
			}
		}
		var err error
		result.More, err = statefile.Diff(sides[0], sides[1], *limit, func(d statefile.Difference) error {
			result.Differences = append(result.Differences, d)
			return nil
		})
		if err != nil {
			return err
		}
		result.Equal = len(result.Differences) == 0
		if err := p.printDiff(result, args, *output); err != nil || result.Equal {
			return err
		}
		return &said{failuref(reasonDifferent, "the states differ")}
	}
	return cmd
}

func (p *program) printDiff(d stateDiff, files []string, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, d)
	}
	if d.Equal {
		fmt.Fprintln(p.stdout, "the states are equal")
		return nil
	}
	var rows [][]any
	for _, x := range d.Differences {
		rows = append(rows, []any{x.Store, x.Durable, x.What, absent(x.A), absent(x.B)})
	}
	printTable(p.stdout, []string{"store", "durable", "what", files[0], files[1]}, rows)
	if d.More {
		fmt.Fprintln(p.stdout, "and more; --limit shows them")
	}
	return nil
}

func absent(s string) string {
	if s == "" {
		return "(absent)"
	}
	return s
}

func (p *program) stateExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Print the messages in a file, as JSON Lines or CSV",
		Long: "Prints the messages that some durable has not acknowledged, in the order of stores and ids.\n" +
			"--store, --durable and --matcher say which; durables names who still wants a message.\n" +
			"What is printed can be published again, and loses nothing: see perdure store import.",
		Example: "  perdure state export main.state\n" +
			"  perdure state export main.state --store flights --durable delays\n" +
			"  perdure state export main.state --store flights -o csv\n" +
			"  perdure state export main.state --matcher '{\"origin\":\"LAS\"}'",
		Args: oneArg("FILE"),
	}
	var sel statefile.Selection
	cmd.Flags().StringVar(&sel.Store, "store", "", "only messages of this store")
	parse := selectionFlags(cmd, &sel)
	output := exportFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := parse(); err != nil {
			return err
		}
		f, err := openState(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer f.Close() // it was only read
		if _, _, err := f.verify(); err != nil {
			return err
		}
		in, err := f.start()
		if err != nil {
			return err
		}
		return p.export(in, sel, *output)
	}
	return cmd
}
