package main

import (
	"github.com/spf13/cobra"
)

func (p *program) storeCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "store",
		Short: "Import messages into stores",
		Long: "Messages leave a store, and come into one, as text: JSON Lines or CSV. What was exported and\n" +
			"is imported is equal, whatever is in it; it has new ids.",
		Example: "  perdure store import main flights flights.jsonl",
	})
	cmd.AddCommand(p.storeImportCommand())
	return cmd
}
