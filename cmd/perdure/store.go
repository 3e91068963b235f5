package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/store/statefile"
)

func (p *program) storeCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "store",
		Short: "Export and import the messages of stores",
		Long: "Messages leave a store, and come into one, as text: JSON Lines or CSV. What was exported and\n" +
			"is imported is equal, whatever is in it; it has new ids.",
		Example: "  perdure store export main flights > flights.jsonl\n" +
			"  perdure store import main flights flights.jsonl",
	})
	cmd.AddCommand(p.storeExportCommand(), p.storeImportCommand())
	return cmd
}

func (p *program) storeExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export CLUSTER STORE",
		Short: "Print the messages of a store, as JSON Lines or CSV",
		Long: "Prints the messages that some durable has not acknowledged, in the order of their ids, as they\n" +
			"were at one moment; publishers and subscribers go on meanwhile. They are kept in a temporary\n" +
			"file until all of them are there and right. A cluster that is suspended is exported as well.\n" +
			"--durable and --matcher say which; durables names who still wants a message.",
		Example: "  perdure store export main flights > flights.jsonl\n" +
			"  perdure store export main flights -o csv > flights.csv\n" +
			"  perdure store export main flights --durable delays --matcher '{\"origin\":\"LAS\"}'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd, "CLUSTER and STORE are wanted, %d given", len(args))
			}
			return nil
		},
		ValidArgsFunction: p.completeStore,
	}
	var sel statefile.Selection
	parse := selectionFlags(cmd, &sel)
	conn := connectionFlags(cmd)
	output := exportFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		if err := parse(); err != nil {
			return err
		}
		sel.Store = args[1]
		return conn.long(cmd.Context(), "store export", func(ctx context.Context, c *client.Client) error {
			return p.exportStore(ctx, c, args[0], sel, *output)
		})
	}
	return cmd
}

// exportStore has the store's state sent into a temporary file, and prints it when
// all of it is there and right.
func (p *program) exportStore(ctx context.Context, c *client.Client, cluster string, sel statefile.Selection, f exportFormat) (err error) {
	temp, err := os.CreateTemp("", "perdure-export-*")
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	// Its name goes at once: a pipe that nobody reads any more ends the process where it
	// writes. Where an open file keeps its name that is tried again in the end.
	if os.Remove(temp.Name()) == nil {
		defer func() { err = errors.Join(err, temp.Close()) }()
	} else {
		defer func() { err = errors.Join(err, temp.Close(), os.Remove(temp.Name())) }()
	}
	meter := p.newStateMeter("received")
	_, err = c.Admin().SaveCluster(ctx, cluster, client.SaveRequest{
		Stores: []string{sel.Store}, Online: true, Progress: meter.of(""),
		Out: func() (io.Writer, error) {
			if _, err := temp.Seek(0, io.SeekStart); err != nil {
				return nil, err
			}
			return temp, temp.Truncate(0)
		},
	})
	meter.end()
	if err != nil {
		return err
	}
	state := &stateFile{ctx, temp}
	if _, _, err := state.verify(); err != nil {
		return err
	}
	in, err := state.start()
	if err != nil {
		return err
	}
	return p.export(in, sel, f)
}
