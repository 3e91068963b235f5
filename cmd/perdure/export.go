package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/message/portable"
	"github.com/perdure/perdure/store/statefile"
)

// exportFormat is the value of -o of what prints messages to be imported.
type exportFormat string

const (
	exportJSON exportFormat = "json"
	exportCSV  exportFormat = "csv"
)

func (f *exportFormat) String() string { return string(*f) }

// Set implements [pflag.Value].
func (f *exportFormat) Set(s string) error {
	switch exportFormat(s) {
	case exportJSON, exportCSV:
		*f = exportFormat(s)
		return nil
	case exportFormat(formatTable): // in the environment it is meant for others
		*f = exportJSON
		return nil
	}
	return fmt.Errorf("%q is neither json nor csv", s)
}

// Type implements [pflag.Value].
func (f *exportFormat) Type() string { return "json|csv" }

// exportFlag declares -o of an export.
func exportFlag(cmd *cobra.Command) *exportFormat {
	f := exportJSON
	cmd.Flags().VarP(&f, "output", "o", "how to print: an object or a row for each message")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// selectionFlags declares what says which messages of a state are wanted, but for
// the store.
func selectionFlags(cmd *cobra.Command, sel *statefile.Selection) (parse func() error) {
	cmd.Flags().StringVar(&sel.Durable, "durable", "", "only what is pending in durables of this name")
	matcher := cmd.Flags().String("matcher", "", "only messages that match, such as {\"origin\":\"LAS\"}")
	return func() (err error) {
		if *matcher != "" {
			if sel.Matcher, err = message.ParseMatcher(*matcher); err != nil {
				return usagef(cmd, "--matcher: %w", err)
			}
		}
		return nil
	}
}

// export prints the selected messages of a state file that was verified.
func (p *program) export(in io.Reader, sel statefile.Selection, f exportFormat) error {
	out := bufio.NewWriterSize(p.stdout, 1<<16)
	format := portable.JSONLines
	if f == exportCSV {
		format = portable.CSV
	}
	w := portable.NewWriter(out, format)
	err := statefile.Export(in, sel, func(m *statefile.Message) error {
		return w.Write(&portable.Record{
			Store: m.Store, Durables: m.Durables, ID: m.ID, Stamp: time.Unix(0, m.Stamp), Count: uint64(m.Ended), Message: &m.Message,
		})
	})
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, out.Flush())
}
