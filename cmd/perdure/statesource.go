package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/store/statefile"
)

// stateSource is the file that is to be loaded.
type stateSource struct {
	server string // whose state directory it is in; empty: it is here
	file   string
	stores []string // of it; none: all
}

// opener returns what begins to read the file, as often as it is called.
func (s *stateSource) opener(ctx context.Context, c *client.Client) (func() (io.ReadCloser, error), error) {
	open := func() (io.ReadCloser, error) { return c.Admin().ReadState(ctx, s.server, s.file) }
	if s.server != "" {
		// Who loads is not kept waiting for a file that nobody sends.
		if err := probe(open); err != nil {
			return nil, err
		}
	} else {
		open = func() (io.ReadCloser, error) { return openRegular(ctx, s.file) }
	}
	if len(s.stores) == 0 {
		return open, nil
	}
	// What is picked is trusted by whoever picks it.
	in, err := open()
	if err != nil {
		return nil, err
	}
	m, _, err := statefile.Verify(in, nil)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	for _, name := range s.stores {
		if !slices.ContainsFunc(m.Stores, func(st statefile.StoreSummary) bool { return st.Name == name }) {
			return nil, failuref("NO_SUCH_STORE", "%s has no store %q", s.file, name)
		}
	}
	return func() (io.ReadCloser, error) { return s.pick(open), nil }, nil
}

// probe reads the beginning of a file.
func probe(open func() (io.ReadCloser, error)) error {
	in, err := open()
	if err != nil {
		return err
	}
	if _, err = in.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		err = nil // others say that it is empty
	}
	return errors.Join(err, in.Close())
}

// regular is a file that is read, perhaps for long.
type regular struct {
	io.Reader
	io.Closer
}

func openRegular(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := openState(ctx, name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: it is read twice, and must be a file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return regular{bufio.NewReaderSize(watched{ctx, f.File}, 1<<20), f}, nil
}

// picked is the file with some stores only, while it is made.
type picked struct {
	*io.PipeReader
	done chan struct{}
}

// Close implements [io.Closer]: it waits until nothing is made any more.
func (p *picked) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// pick makes the file with the chosen stores, as it is read.
func (s *stateSource) pick(open func() (io.ReadCloser, error)) io.ReadCloser {
	in, out := io.Pipe()
	p := &picked{in, make(chan struct{})}
	go func() {
		defer close(p.done)
		var opened []io.Closer
		_, _, err := statefile.Pick(func() (io.Reader, error) {
			r, err := open()
			if err == nil {
				opened = append(opened, r)
			}
			return r, err
		}, out, s.stores...)
		for _, c := range opened {
			err = errors.Join(err, c.Close())
		}
		_ = out.CloseWithError(err) // always nil
	}()
	return p
}
