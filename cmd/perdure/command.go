package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ownEnvironment marks a command that reads its environment itself.
const ownEnvironment = "environment"

// fromVariable marks a flag that has its value from the environment.
const fromVariable = "from variable"

// group makes a command that only has commands below it.
func (p *program) group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = verb
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.HasParent() {
			return usagef(cmd, "no verb given: %s", strings.Join(verbs(cmd), ", "))
		}
		return cmd.Help()
	}
	return cmd
}

// verb refuses words that are no command, with what was probably meant.
func verb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef(cmd, "unknown command %q; did you mean %q?", args[0], near[0])
	}
	return usagef(cmd, "unknown command %q; there are: %s", args[0], strings.Join(verbs(cmd), ", "))
}

// helpCommand shows the help of a command, and refuses what is none.
func (p *program) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, name := range args {
				i := slices.IndexFunc(about.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
				switch {
				case i >= 0:
					about = about.Commands()[i]
				case !about.HasAvailableSubCommands():
					return usagef(about, "%s has no command %q", about.CommandPath(), name)
				default:
					return verb(about, []string{name})
				}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func verbs(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// noArgs refuses every argument.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "unknown argument %q; %s takes flags only", args[0], cmd.CommandPath())
	}
	return nil
}

// oneArg demands exactly one argument; what names it.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usagef(cmd, "no %s given", what)
		case len(args) > 1:
			return usagef(cmd, "unknown argument %q; one %s is enough", args[1], what)
		}
		return nil
	}
}

// finish gives every command below root, and root, what all of them share.
func finish(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			return usagef(cmd, "--%s %s", invalid.GetFlag().Name, badValue(invalid.GetFlag(), invalid.GetValue(), err))
		}
		return usagef(cmd, "%w", err)
	})
	each(root, func(cmd *cobra.Command) {
		cmd.SuggestionsMinimumDistance = 2
		cmd.Flags().SortFlags = false
		cmd.DisableFlagsInUseLine = !cmd.HasAvailableFlags()
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			f.Usage += " [" + twin(cmd, f.Name) + "]"
		})
	})
}

func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		each(c, do)
	}
}

// variable is the environment twin of a flag.
func variable(flag string) string {
	return "PERDURE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// twin is the environment twin of a flag of a command. Where a flag means one
// thing to one command and another to another, the variable of one of them has
// the command's name: who exports what pub is to connect to does not mean bench,
// and a server's data is not a dev's.
func twin(cmd *cobra.Command, flag string) string {
	switch {
	case flag == "print":
		return variable("output") // as everywhere
	case flag == "output" && cmd.Flags().Lookup("print") != nil:
		return variable(cmd.Name() + "-output") // it is a file
	}
	if flag != "output" && cmd.HasParent() {
		top := cmd
		for top.Parent().HasParent() {
			top = top.Parent()
		}
		switch name := top.Name(); {
		case name == "bench", name == "dev" && flag == "data", name == "demo" && flag == "count":
			return variable(name + "-" + flag)
		}
	}
	return variable(flag)
}

// fromEnvironment sets the flags that were not given from their variables. An
// empty variable counts as absent.
func (p *program) fromEnvironment(cmd *cobra.Command) error {
	if _, own := cmd.Annotations[ownEnvironment]; own {
		return nil
	}
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := lookup(p.environ, twin(cmd, f.Name))
		if !ok || value == "" || f.Changed || f.Name == "help" || f.Name == "version" || err != nil {
			return
		}
		e := cmd.Flags().SetAnnotation(f.Name, fromVariable, nil)
		values := []string{value}
		if _, repeatable := f.Value.(pflag.SliceValue); repeatable && e == nil {
			if values, e = csv.NewReader(strings.NewReader(value)).Read(); e != nil {
				err = usagef(cmd, "environment: %s: %q: it must be a list with commas between; quote what has one itself: %v", twin(cmd, f.Name), value, e)
				return
			}
		}
		for _, v := range values {
			if e == nil {
				e = cmd.Flags().Set(f.Name, v)
			}
		}
		if e != nil {
			err = usagef(cmd, "environment: %s: %s", twin(cmd, f.Name), badValue(f, value, e))
		}
	})
	return err
}

// fromItsVariable names the variable that a flag has its value from, for errors about
// a flag that nobody has typed.
func (p *program) fromItsVariable(cmd *cobra.Command, flag string) string {
	f := cmd.Flags().Lookup(flag)
	if _, there := f.Annotations[fromVariable]; !there {
		return ""
	}
	return fmt.Sprintf("; %s=%s is in the environment", twin(cmd, flag), f.Value)
}

// badValue says what a flag's value has to look like; err is why it was refused.
func badValue(f *pflag.Flag, value string, err error) string {
	switch kind := f.Value.Type(); kind {
	case "duration":
		if _, e := strconv.ParseFloat(value, 64); e == nil {
			return fmt.Sprintf("%q: it has no unit; write %ss", value, value)
		}
		return fmt.Sprintf("%q: it must be a time, such as 500ms, 5s or 2m", value)
	case "bool":
		return fmt.Sprintf("%q: it must be true or false", value)
	case "int", "int64", "uint64", "uint":
		if _, e := strconv.ParseFloat(value, 64); errors.Is(e, strconv.ErrRange) || e == nil && !strings.ContainsAny(value, ".eE-") {
			return fmt.Sprintf("%q: it is too large", value)
		}
		if strings.HasPrefix(kind, "u") {
			return fmt.Sprintf("%q: it must be a whole number from 0 on", value)
		}
		return fmt.Sprintf("%q: it must be a whole number", value)
	}
	// The values of our own types say it themselves.
	if _, text, ok := strings.Cut(err.Error(), " flag: "); ok {
		return text
	}
	return err.Error()
}

// lookup returns the last value of a variable.
func lookup(environ []string, name string) (string, bool) {
	for _, kv := range slices.Backward(environ) {
		if key, value, _ := strings.Cut(kv, "="); key == name {
			return value, true
		}
	}
	return "", false
}
