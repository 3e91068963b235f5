package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

// format is the value of -o.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

func (f *format) String() string { return string(*f) }

// Set implements [pflag.Value].
func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatJSON:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("%q is neither table nor json", s)
}

// Type implements [pflag.Value].
func (f *format) Type() string { return "table|json" }

// outputFlag declares -o.
func outputFlag(cmd *cobra.Command) *format { return formatFlag(cmd, "output") }

// printFlag declares -o where --output is a file.
func printFlag(cmd *cobra.Command) *format { return formatFlag(cmd, "print") }

func formatFlag(cmd *cobra.Command, name string) *format {
	f := formatTable
	cmd.Flags().VarP(&f, name, "o", "how to print")
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// printTable prints rows under a header, without frames, so that columns can be
// cut by other programs.
func printTable(w io.Writer, header []string, rows [][]any) {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.Options{SeparateColumns: true}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", ""
	style.Box.MiddleVertical = "  "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(row(header))
	for _, r := range rows {
		t.AppendRow(table.Row(r))
	}
	fmt.Fprintln(w, t.Render())
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// checkedWriter remembers the first error of its writer: tables and help are
// printed by code that does not look at it. Several goroutines may write.
type checkedWriter struct {
	io.Writer
	first atomic.Pointer[error]
}

func (w *checkedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.first.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (w *checkedWriter) failed() error {
	if err := w.first.Load(); err != nil {
		return fmt.Errorf("the output is not whole: %w", *err)
	}
	return nil
}

// isTerminal tells whether somebody watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bytesText writes a size for people.
func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n), ""
	for _, p := range []string{"Ki", "Mi", "Gi", "Ti"} {
		value, prefix = value/unit, p
		if value < unit {
			break
		}
	}
	return fmt.Sprintf("%.1f %sB", value, prefix)
}

// grouped writes a number with a comma between thousands.
func grouped[T ~int | ~int64 | ~uint64](n T) string {
	s := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
