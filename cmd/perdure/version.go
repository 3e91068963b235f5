package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/server"
)

// versionInfo is what `version -o json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// String is the line that people see.
func (v versionInfo) String() string {
	revision := v.Revision
	if v.Modified {
		revision += ", modified"
	}
	return fmt.Sprintf("perdure %s (%s) %s %s\n", v.Version, revision, v.Go, v.Platform)
}

func (p *program) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Example: "  perdure version\n" +
			"  perdure version -o json",
		Args: noArgs,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := readVersion()
		if *output == formatJSON {
			return p.writeJSON(p.stdout, v)
		}
		_, err := io.WriteString(p.stdout, v.String())
		return err
	}
	return cmd
}

// readVersion asks the build information, which every go command writes.
func readVersion() versionInfo {
	v := versionInfo{Version: server.Version, Revision: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
