package main

import (
	"github.com/spf13/cobra"
)

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a completion script for a shell",
		Long: "Prints a script that completes verbs, flags and, where a cluster answers within half a\n" +
			"second, the names of endpoints.",
		Example: "  source <(perdure completion bash)\n" +
			"  perdure completion fish > ~/.config/fish/completions/perdure.fish",
		ValidArgs: shells,
		Args:      oneArg("shell: bash, zsh, fish or powershell,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.stdout)
			}
			return usagef(cmd, "unknown shell %q; there are bash, zsh, fish and powershell", args[0])
		},
	}
}
