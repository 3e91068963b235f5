package ours

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/perdure/perdure/bench"
)

// servers are three, as everybody's.
const servers = 3

// A Binary is a perdure program. Close removes it if Open built it.
type Binary struct {
	path string
	dir  string // to remove; none if the binary was given
}

// Open returns the binary at path or, if that is empty, builds one.
func Open(ctx context.Context, path string) (*Binary, error) {
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("the binary of perdure: %w", err)
		}
		return &Binary{path: path}, nil
	}
	dir, err := os.MkdirTemp("", "perdure-binary-")
	if err != nil {
		return nil, err
	}
	b := &Binary{path: filepath.Join(dir, "perdure"), dir: dir}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// build compiles in the folder of the main module, with its versions.
func (b *Binary) build(ctx context.Context) error {
	root, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/perdure/perdure"))
	if err != nil {
		return fmt.Errorf("find the module of perdure: %w; run this where go run . works", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.path, "./cmd/perdure")
	build.Dir = root
	if _, err := output(build); err != nil {
		return fmt.Errorf("build perdure: %w", err)
	}
	return nil
}

// output runs a command; what it complains about is part of the error.
func output(cmd *exec.Cmd) (string, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return string(bytes.TrimSpace(out)), nil
}

// Close removes what Open made.
func (b *Binary) Close() error {
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// Run starts three servers with empty directories, puts l on them and ends them.
// It sets l.Connect, l.Usage and l.Servers. A run that kept nothing is an error:
// there is nothing to compare with what peers store.
func (b *Binary) Run(ctx context.Context, durability string, l bench.Load) (f *bench.Figures, err error) {
	s, err := bench.StartServers(ctx, b.path, servers, durability, bench.ServerOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	l.Connect, l.Usage, l.Servers = s.Connect, s.Usage, s
	f, err = bench.Run(ctx, l)
	if err != nil {
		return nil, err
	}
	if !f.Interested {
		return nil, errors.New("no durable was interested: nothing was stored")
	}
	return f, nil
}
