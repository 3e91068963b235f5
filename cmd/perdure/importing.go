package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message/portable"
)

// importing is an import on its way.
type importing struct {
	p       *program
	in      importInput
	o       importOptions
	target  *importTarget
	session *importSession
	timeout time.Duration

	pub     *client.Publisher
	stored  uint64 // batches that an earlier run brought into the store
	skipped int    // messages of these
	tally   *tally
	earlier []lineRange // lines of these batches
}

// open opens the publisher, with the session of the run before if there was one.
func (r *importing) open(ctx context.Context, c *client.Client) (err error) {
	s, t := r.session, r.target
	head := importHead{Import: importVersion, Cluster: t.cluster, Store: t.store, Endpoint: t.endpoint, Format: string(r.o.format)}
	if s.begun() {
		was := s.head
		was.Session, was.Epoch, was.StoreID, was.Before = 0, 0, 0, 0
		if was != head {
			return failuref("INVALID_ARGUMENT", "%s is of an import of %s into store %s of cluster %s through %s: remove it, or give another with --session",
				s.name, s.head.Format, s.head.Store, s.head.Cluster, s.head.Endpoint)
		}
		head = s.head
	}
	r.pub, err = c.Publisher(ctx, t.endpoint, client.WithSession(s.client()))
	if s.begun() && (errors.Is(err, client.ErrSessionUnknown) || errors.Is(err, client.ErrEpochChanged)) {
		if !r.o.again {
			return r.sessionGone()
		}
		head.Before = s.confirmed
		r.pub, err = c.Publisher(ctx, t.endpoint, client.WithSession(client.Session{}))
	}
	if err != nil {
		return err
	}
	now := r.pub.Session()
	head.Session, head.Epoch, head.StoreID = now.ID, now.Epoch, now.Store
	r.stored = head.Before + now.Last
	return s.open(head)
}

// sessionGone says what is known without the session.
func (r *importing) sessionGone() error {
	s := r.session
	known := "nothing is known to be stored"
	mark, _ := s.mark(s.confirmed)
	if s.confirmed > 0 {
		known = fmt.Sprintf("lines up to %d are stored", mark.Lines)
	}
	if last := s.last(); last.Lines > mark.Lines {
		known += fmt.Sprintf(", of those up to %d nobody knows", last.Lines)
	}
	return failuref("SESSION_UNKNOWN", "the servers have forgotten the publisher session of %s (nobody used it for an hour, or what the store held was replaced): %s; "+
		"go on behind what is stored with --again, or remove the file to begin anew", s.name, known)
}

// sentBatch is a batch on its way.
type sentBatch struct {
	future client.Future
	number uint64
	lines  lineRange
	n      int
}

// publish publishes all batches that are not stored, and waits for their outcomes.
func (r *importing) publish(ctx context.Context) error {
	publishing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	way := make(chan sentBatch, client.MaxWindowBatches)
	counted := make(chan *tally, 1)
	go func() { counted <- r.awaitOutcomes(way, stop) }()
	last := uint64(0)
	stopped := newBatcher(r.in.name, r.in.reader, r.o.format, r.target.maxMessage).each(publishing, func(b *importBatch) error {
		last = b.number
		if mark, known := r.session.mark(b.number); known && b.number <= max(r.stored, r.session.confirmed) {
			if err := b.check(mark, r.in.name); err != nil {
				return err
			}
		}
		if b.number <= r.stored {
			r.skip(b)
			return nil
		}
		err := r.session.append(importLine{Sent: b.number, Lines: b.lines.Last, Messages: len(b.messages), Sum: b.sum})
		if err != nil {
			return err
		}
		f := r.pub.PublishBatchAsync(publishing, b.messages)
		if err := f.Refused(); err != nil {
			if e := new(client.Error); errors.As(err, &e) && e.Retryable {
				return err // of the moment, and not of these lines
			}
			return fmt.Errorf("%s:%v: %w", r.in.name, b.lines.First, err)
		}
		way <- sentBatch{f, b.number, b.lines, len(b.messages)}
		return nil
	})
	close(way)
	r.tally = <-counted
	switch err := r.tally.err; {
	case err == nil && stopped == nil && last < r.stored:
		return failuref("INVALID_ARGUMENT", "%s ends before what is imported of it: it is not what it was", r.in.name)
	case err == nil, errors.Is(stopped, err):
		return stopped
	default:
		return errors.Join(err, stopped)
	}
}

// skip notes a batch that an earlier run brought into the store.
func (r *importing) skip(b *importBatch) {
	r.skipped += len(b.messages)
	r.earlier = []lineRange{{First: 1, Last: b.lines.Last}}
}

// awaitOutcomes waits for outcomes in order, and stops the publishing at the first
// that is an error. It drains way.
func (r *importing) awaitOutcomes(way <-chan sentBatch, stop context.CancelCauseFunc) *tally {
	t := &tally{}
	shown := time.Now()
	for b := range way {
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout+outcomeGrace)
		receipt, err := b.future.Wait(ctx)
		cancel()
		t.count(b.lines, b.n, receipt, err)
		if err == nil && receipt.Confirmed {
			err = r.session.append(importLine{Confirmed: b.number})
		}
		if e := new(client.Error); errors.As(err, &e) && e.Reason == "SEQUENCE_REUSED" {
			// What the run before sent came late, and was something else.
			err = errors.Join(err, r.session.append(importLine{Sent: b.number, Lines: b.lines.Last}))
		}
		if err != nil && t.err == nil {
			t.err = err
			stop(err)
		}
		if isTerminal(r.p.stderr) && time.Since(shown) > time.Second {
			shown = time.Now()
			fmt.Fprintf(r.p.stderr, "\rperdure: %s confirmed, line %s", countOf(t.counts[confirmed], "message"), grouped(b.lines.Last))
		}
	}
	if isTerminal(r.p.stderr) {
		fmt.Fprint(r.p.stderr, "\r\x1b[K")
	}
	return t
}

// progress says how far a run came that did not end well.
func (r *importing) progress() *progress {
	t := r.tally
	if len(r.earlier) > 0 {
		t.lines[confirmed] = append(r.earlier, t.lines[confirmed]...)
		if l := t.lines[confirmed]; len(l) > 1 && l[1].First == l[0].Last+1 {
			t.lines[confirmed] = append([]lineRange{{l[0].First, l[1].Last}}, l[2:]...)
		}
		t.last = max(t.last, r.earlier[0].Last)
	}
	g := t.progress()
	g.Confirmed += r.skipped
	g.resumes = r.session.file != nil
	file := "-"
	if r.in.name != "stdin" {
		file = word(r.in.name)
	}
	command := fmt.Sprintf("perdure store import %s %s %s%s", word(r.target.cluster), word(r.target.store), file, r.o.flags)
	switch {
	case g.resumes || g.Next == 1 || file != "-" && t.published()+r.skipped == 0:
		g.GoOn = command
	case r.o.format == portable.CSV:
		g.GoOn = fmt.Sprintf("(head -n 1 FILE; tail -n +%d FILE) | %s", g.Next, command)
	default:
		g.GoOn = fmt.Sprintf("tail -n +%d FILE | %s", g.Next, command)
	}
	return g
}

// printImported reports a run in which nothing went wrong.
func (p *program) printImported(r *importing, output format) error {
	result := importResult{Cluster: r.target.cluster, pubResult: r.tally.result(r.target.endpoint), Skipped: r.skipped}
	result.Store = r.target.store
	if output == formatJSON {
		return p.writeJSON(p.stdout, result)
	}
	text := fmt.Sprintf("imported %s into store %s", countOf(result.Published, "message"), result.Store)
	if result.Confirms {
		text += fmt.Sprintf(", confirmed %s", grouped(result.Confirmed))
	} else {
		text += ", which confirms nothing (publisher_mode: noconfirm)"
	}
	if result.FirstID != 0 {
		text += fmt.Sprintf(", ids %v to %v", result.FirstID, result.LastID)
	}
	if r.skipped > 0 {
		text += fmt.Sprintf("; %s were there from the run before", grouped(r.skipped))
	}
	_, err := fmt.Fprintln(p.stdout, text)
	if err == nil && result.Published > 0 && result.Confirms && !result.Interested {
		fmt.Fprintf(p.stderr, "perdure: no durable of store %s is interested, so nothing was kept\n", result.Store)
	}
	return err
}
