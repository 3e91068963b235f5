package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/fleet"
	"github.com/perdure/perdure/server"
)

func (p *program) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run one server in the foreground",
		Long: "Runs a server until it is told to stop (SIGTERM, Ctrl-C): it gives away leadership first.\n" +
			"It logs to standard error, and prints one line to standard output when it is ready.\n\n" +
			"Keys of the configuration file are the names of the flags with _ for -.\n" +
			"File < environment < flags.",
		Example: "  perdure server --name s1 --data /var/lib/perdure --core s1=127.0.0.1:7401\n" +
			"  perdure server --config /etc/perdure/server.yaml --log-format json\n" +
			"  PERDURE_NAME=s2 perdure server --config /etc/perdure/server.yaml",
		Args:        verb,
		Annotations: map[string]string{ownEnvironment: "read by package server"},
	}
	server.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := server.LoadConfig(cmd.Flags(), p.environ)
		if err != nil {
			return usagef(cmd, "%w", err)
		}
		leaveHeapRoom(p.environ)
		return p.serve(cmd.Context(), cfg)
	}
	cmd.AddCommand(p.shutdownCommand())
	return cmd
}

// serve runs a server until ctx ends, or the server does.
func (p *program) serve(ctx context.Context, cfg server.Config) error {
	log := newLogger(p.stderr, cfg.LogLevel, cfg.LogFormat)
	s, err := server.Open(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("server %s: %w", cfg.Name, err)
	}
	beside, end := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { p.announce(beside, cfg) })
	both.Go(func() { followLoad(beside, log, p.environ) })
	select {
	case <-ctx.Done():
		log.Info("stopping", "server", cfg.Name)
	case <-s.StopAsked():
		log.Info("stopping", "server", cfg.Name)
	case <-s.Done():
		log.Error("the server ended", "server", cfg.Name)
		err = fmt.Errorf("server %s ended by itself; its log says why", cfg.Name)
	}
	end()
	both.Wait()
	closing, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if e := s.Close(closing); e != nil {
		return fmt.Errorf("server %s: stop: %w", cfg.Name, e)
	}
	return err
}

// announce prints one line when the server is ready.
func (p *program) announce(ctx context.Context, cfg server.Config) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if ok, _ := fleet.AskReady(ctx, cfg.ListenOps); ok {
			fmt.Fprintf(p.stdout, "server %s is ready: clients %s, peers %s, operators http://%s\n",
				cfg.Name, cfg.ListenClient, cfg.ListenPeer, cfg.ListenOps)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// newLogger makes the logger that a configuration asks for; the configuration
// is valid.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level))
	options := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
