package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The codes that a run ends with.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks to end; a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// program is what a run has of the world outside. Nothing else in this package
// reaches for standard files, arguments or the environment.
type program struct {
	args    []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	environ []string
}

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	out := &checkedWriter{Writer: stdout}
	p := &program{args: args, stdin: stdin, stdout: out, stderr: stderr, environ: environ}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = out.failed()
	}
	if err == nil {
		return exitOK
	}
	return p.fail(cmd, err)
}

func (p *program) root() *cobra.Command {
	root := p.group(&cobra.Command{
		Use:   "perdure",
		Short: "Messages that go on existing: a replicated persistence service",
		Long: "Perdure keeps messages in stores that are replicated among servers, until every durable\n" +
			"that is interested in them has acknowledged them.\n\n" +
			"Every flag can be given in the environment; the name is shown in brackets. A flag\n" +
			"that may be repeated takes a list there, with commas between.\n" +
			"Runs end with 0 (done), 1 (failed) or 2 (asked wrongly).",
		Example: "  perdure demo                     # watch a cluster lose its leader, and nothing else\n" +
			"  perdure dev                      # three servers on this machine, until Ctrl-C\n" +
			"  perdure pub default hi           # publish to them\n" +
			"  perdure sub default --durable d  # and read it",
	})
	root.AddCommand(
		p.serverCommand(), p.devCommand(), p.demoCommand(),
		p.realmCommand(), p.clusterCommand(), p.statusCommand(), p.pubCommand(), p.subCommand(),
		p.storeCommand(), p.stateCommand(), p.backupCommand(), p.restoreCommand(), p.benchCommand(), p.versionCommand(), p.completionCommand(),
	)
	root.SetHelpCommand(p.helpCommand())
	root.Version = readVersion().Version
	root.SetVersionTemplate(readVersion().String())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return p.fromEnvironment(cmd) }
	finish(root)
	return root
}
