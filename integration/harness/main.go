package harness

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/perdure/perdure/server"
)

// serverVariable makes the test binary a server. It does not begin with PERDURE_,
// which servers read as configuration.
const serverVariable = "HARNESS_SERVER"

// stopPatience is how long a server may take to stop gracefully.
const stopPatience = 15 * time.Second

// The exit codes of a server, those of the command perdure.
const (
	ExitFailure = 1
	ExitUsage   = 2
)

// Main runs the tests, or a server if this process was started to be one. It is
// called from TestMain and does not return.
func Main(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		os.Exit(serve(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// serve is the verb server of the command line, without the command line.
func serve(args []string) int {
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	server.Flags(flags)
	if err := flags.Parse(args); err != nil {
		fmt.Fprintln(os.Stderr, "usage:", err)
		return ExitUsage
	}
	config, err := server.LoadConfig(flags, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage:", err)
		return ExitUsage
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(config.LogLevel)) // LoadConfig has checked it
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	s, err := server.Open(ctx, config, logger)
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		return ExitFailure
	}
	go func() {
		// The tests hold the other end, and never write: the end means that they
		// are dead.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(ExitFailure)
	}()
	code := 0
	select {
	case <-ctx.Done():
	case <-s.Done():
		fmt.Fprintln(os.Stderr, "failed: the server ended by itself")
		code = ExitFailure
	}
	closing, done := context.WithTimeout(context.Background(), stopPatience)
	defer done()
	if err := s.Close(closing); err != nil {
		fmt.Fprintln(os.Stderr, "failed: stop:", err)
		code = ExitFailure
	}
	return code
}
