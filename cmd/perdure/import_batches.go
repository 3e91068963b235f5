package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/message/portable"
)

// importBatch is what is published at once.
type importBatch struct {
	number   uint64 // in the input, from 1 on
	messages []*message.Message
	lines    lineRange
	sum      string // of the input up to its end
	err      error  // why there are no more; then nothing else is set. io.EOF is the end
}

// batcher cuts an input into batches, always the same ones: where they end depends
// on what is in the input, and on nothing else. What is before a line that is
// wrong, and would be in its batch, is in none.
type batcher struct {
	name    string
	in      *portable.Reader
	builder message.Builder
	sum     hash.Hash
	number  uint64
	held    *message.Message // that did not fit into the last batch
	raw     []byte           // of held
	at      lineRange        // likewise
}

func newBatcher(name string, in io.Reader, f portable.Format, maxMessage int) *batcher {
	b := &batcher{name: name, in: portable.NewReader(in, f), sum: sha256.New()}
	b.builder.SetMaxMessageSize(maxMessage)
	return b
}

// next returns the next batch, whose err says whether it is one.
func (b *batcher) next() *importBatch {
	out := &importBatch{number: b.number + 1}
	b.builder.Reset()
	for b.builder.Size() < client.DefaultBatchTarget {
		if b.held == nil {
			if err := b.read(); err != nil {
				if err == io.EOF && len(out.messages) > 0 {
					break
				}
				return &importBatch{err: err}
			}
		}
		if err := b.builder.Add(b.held); errors.Is(err, message.ErrFull) && len(out.messages) > 0 {
			break
		} else if err != nil {
			return &importBatch{err: failuref("INVALID_ARGUMENT", "%s:%d: %w", b.name, b.at.First, err)}
		}
		if len(out.messages) == 0 {
			out.lines.First = b.at.First
		}
		out.lines.Last = b.at.Last
		out.messages = append(out.messages, b.held)
		b.sum.Write(b.raw)
		b.held = nil
	}
	b.number++
	out.sum = hex.EncodeToString(b.sum.Sum(nil))
	return out
}

// read reads the next message.
func (b *batcher) read() error {
	m, err := b.in.Next()
	var wrong *portable.Error
	switch {
	case errors.As(err, &wrong) && wrong.Column > 0:
		return failuref("INVALID_ARGUMENT", "%s:%d:%d: %w", b.name, wrong.Line, wrong.Column, wrong.Err)
	case errors.As(err, &wrong):
		return failuref("INVALID_ARGUMENT", "%s:%d: %w", b.name, wrong.Line, wrong.Err)
	case err == io.EOF:
		return err
	case err != nil:
		return fmt.Errorf("%s: %w", b.name, err)
	}
	b.held = m
	b.raw = append(b.raw[:0], b.in.Raw()...)
	b.at.First, b.at.Last = b.in.Line()
	return nil
}

// each reads in a goroutine of its own, so that reading and publishing overlap, and
// calls do for each batch until ctx ends or do fails. Where ctx ends while the input
// blocks, the goroutine ends with the process.
func (b *batcher) each(ctx context.Context, do func(*importBatch) error) error {
	batches := make(chan *importBatch, 4)
	go func() {
		defer close(batches)
		for {
			batch := b.next()
			select {
			case batches <- batch:
			case <-ctx.Done():
				return
			}
			if batch.err != nil {
				return
			}
		}
	}()
	for {
		var batch *importBatch
		select {
		case batch = <-batches:
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case batch.err == io.EOF:
			return nil
		case batch.err != nil:
			return batch.err
		}
		if err := do(batch); err != nil {
			return err
		}
	}
}

// importInput is where an import reads from.
type importInput struct {
	name   string
	reader io.Reader
	close  func() error
}

// check finds that the input up to the batch is what it was.
func (batch *importBatch) check(mark importLine, name string) error {
	if mark.Sum == batch.sum {
		return nil
	}
	return failuref("INVALID_ARGUMENT", "%s is not what it was: its first %d lines are imported, and differ from those there now", name, mark.Lines)
}
