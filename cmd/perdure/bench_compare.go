package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/bench"
)

func (p *program) benchCompareCommand() *cobra.Command {
	output := benchTable
	cmd := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "Put two reports side by side",
		Long: "Reads what scenarios printed with -o json, and prints for each number of each load that is in\n" +
			"both files how it changed from the first to the second. Several objects in one file are fine.\n\n" +
			"A ratio is B / A. It stands without doubt only where no run of one was as good as any run of\n" +
			"the other; for that both need --runs.",
		Example: "  perdure bench compare before.json after.json",
		Args:    cobra.ArbitraryArgs,
	}
	cmd.Flags().VarP(&output, "output", "o", "how to print")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return usagef(cmd, "%d files given: compare takes two, A.json and B.json", len(args))
		}
		if output == benchCSV {
			return usagef(cmd, "-o csv: compare prints table or json")
		}
		a, err := readBench(args[0])
		if err != nil {
			return err
		}
		b, err := readBench(args[1])
		if err != nil {
			return err
		}
		all, alone, err := bench.Compare(a, b)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", args[0], args[1], err)
		}
		for _, name := range alone {
			fmt.Fprintf(p.stderr, "perdure: only one of the files has %s\n", name)
		}
		if output == benchJSON {
			return p.writeJSON(p.stdout, all)
		}
		p.printComparison(all)
		return nil
	}
	return cmd
}

func readBench(path string) ([]*bench.Summary, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := bench.ReadSummaries(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func (p *program) printComparison(all []bench.Difference) {
	var rows [][]any
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, d := range all {
		verdict := "worse"
		switch {
		case d.A == d.B:
			verdict = "same"
		case d.Better:
			verdict = "better"
		}
		if d.A != d.B && !d.Apart {
			verdict += "?"
		}
		rows = append(rows, []any{d.Scenario, d.Load, d.Unit, number(d.A), number(d.B), fmt.Sprintf("%.3f", d.Ratio), verdict})
	}
	printTable(p.stdout, []string{"scenario", "load", "number", "A", "B", "B/A", "B is"}, rows)
}
