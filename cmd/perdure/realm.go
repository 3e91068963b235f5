package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

// realmFile is a definition that was read and found valid.
type realmFile struct {
	name   string
	data   []byte
	parsed *realm.Realm
}

func (p *program) realmCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "realm",
		Short: "Check, plan, apply and show the realm definition",
		Long: "The realm definition says which clusters, services, stores, durables and endpoints exist.\n" +
			"It is one YAML or JSON document; FILE may be - for standard input.",
		Example: "  perdure realm validate realm.yaml\n" +
			"  perdure realm plan realm.yaml\n" +
			"  perdure realm apply realm.yaml",
	})
	cmd.AddCommand(p.realmValidateCommand(), p.realmPlanCommand(), p.realmApplyCommand(), p.realmGetCommand())
	return cmd
}

// readRealmFile reads and checks a definition; nil for no path. Its problems
// are a *realm.Problems.
func readRealmFile(p *program, path string) (*realmFile, error) {
	if path == "" {
		return nil, nil
	}
	f := &realmFile{name: path}
	var err error
	if path == "-" {
		// One byte more than is allowed is enough to be refused.
		f.name = "stdin"
		f.data, err = io.ReadAll(io.LimitReader(p.stdin, realm.MaxDocument+1))
	} else {
		f.data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("realm definition: %w", err)
	}
	f.parsed, err = realm.Parse(f.name, f.data)
	return f, err
}

func (p *program) realmValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a definition without a server",
		Long: "Prints a problem a line, as FILE:LINE:COL: PATH: what is wrong; what to do, and ends with 1\n" +
			"if any of them is more than a warning.",
		Example: "  perdure realm validate realm.yaml\n" +
			"  perdure realm validate -o json - < realm.yaml",
		Args: oneArg("FILE"),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		f, err := readRealmFile(p, args[0])
		var problems *realm.Problems
		if err != nil && !errors.As(err, &problems) {
			return err
		}
		list := realm.Problems{}
		if problems != nil {
			list = *problems
		} else {
			list = append(list, f.parsed.Warnings()...)
		}
		if *output == formatJSON {
			result := struct {
				Valid    bool             `json:"valid"`
				Problems []client.Problem `json:"problems"`
			}{problems == nil, fromRealm(list)}
			if err := p.writeJSON(p.stdout, result); err != nil {
				return err
			}
		} else {
			for _, problem := range list {
				fmt.Fprintln(p.stdout, problem.String())
			}
		}
		if problems != nil {
			return &said{err}
		}
		if *output == formatTable {
			fmt.Fprintf(p.stdout, "%s: valid: realm %s, %s, %s\n",
				f.name, f.parsed.Name, countOf(len(f.parsed.Clusters), "cluster"), countOf(len(f.parsed.Endpoints), "endpoint"))
		}
		return nil
	}
	return cmd
}

func (p *program) realmPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what applying a definition would change",
		Long: "Shows each change and, for what would be deleted, how many messages it holds and how many\n" +
			"are pending on its durables, also on those that subscribers made.",
		Example: "  perdure realm plan realm.yaml\n" +
			"  perdure realm plan realm.yaml -o json",
		Args: oneArg("FILE"),
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := p.checkedRealmFile(cmd, conn, args[0])
		if err != nil {
			return err
		}
		return conn.call(cmd.Context(), "realm plan", func(ctx context.Context, c *client.Client) error {
			seen, err := foresee(ctx, c, f)
			if err != nil {
				return err
			}
			if err := p.printChanges(f.name, "the plan starts from", seen, *output); err != nil {
				return err
			}
			if *output == formatTable && seen.refusal(f.name) != nil {
				fmt.Fprintln(p.stderr, "perdure: applying it would delete messages; realm apply refuses that without --allow-delete")
			}
			return nil
		})
	}
	return cmd
}

func (p *program) realmApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make a definition the realm's",
		Long: "Applies a definition and waits until every cluster has taken it over.\n" +
			"With --expected-revision nothing is changed if somebody else applied another one meanwhile.\n\n" +
			"What the definition leaves out is deleted. If that holds messages, or nobody can say whether\n" +
			"it does, nothing is applied without --allow-delete.",
		Example: "  perdure realm apply realm.yaml\n" +
			"  perdure realm apply realm.yaml --expected-revision 7\n" +
			"  perdure realm apply realm.yaml --no-wait\n" +
			"  perdure realm apply realm.yaml --allow-delete",
		Args: oneArg("FILE"),
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	expected := cmd.Flags().Uint64("expected-revision", 0, "the revision that this definition is to follow")
	var how application
	cmd.Flags().BoolVar(&how.noWait, "no-wait", false, "return when the definition is stored")
	allowDeleteFlag(cmd, &how.allow)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := p.checkedRealmFile(cmd, conn, args[0])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("expected-revision") {
			how.revision = expected
		}
		return conn.call(cmd.Context(), "realm apply", func(ctx context.Context, c *client.Client) error {
			applied, err := how.apply(ctx, c, f)
			if err != nil {
				return err
			}
			return p.printChanges(f.name, "applied as", applied, *output)
		})
	}
	return cmd
}

// checkedRealmFile reads a definition for the servers, after a look at it here:
// what is wrong with it by itself needs no connection.
func (p *program) checkedRealmFile(cmd *cobra.Command, conn *connection, path string) (*realmFile, error) {
	if err := conn.check(cmd); err != nil {
		return nil, err
	}
	return p.validRealmFile(path)
}

// validRealmFile reads a definition; one that is wrong is an *invalidRealm.
func (p *program) validRealmFile(path string) (*realmFile, error) {
	f, err := readRealmFile(p, path)
	var problems *realm.Problems
	if errors.As(err, &problems) {
		return nil, &invalidRealm{path, *problems}
	}
	return f, err
}

func (p *program) realmGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Print the definition as it was applied",
		Example: "  perdure realm get > realm.yaml\n" +
			"  perdure realm get --revision 3\n" +
			"  perdure realm get -o json",
		Args: noArgs,
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	revision := cmd.Flags().Uint64("revision", 0, "which revision; 0 is the newest")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		return conn.call(cmd.Context(), "realm get", func(ctx context.Context, c *client.Client) error {
			r, err := c.Admin().GetRealm(ctx, *revision)
			if err != nil {
				return err
			}
			if *output == formatJSON {
				return p.writeJSON(p.stdout, struct {
					Revision  uint64 `json:"revision"`
					AppliedAt string `json:"applied_at"`
					Document  string `json:"document"`
				}{r.Revision, r.AppliedAt, string(r.Document)})
			}
			_, err = p.stdout.Write(r.Document)
			return err
		})
	}
	return cmd
}
