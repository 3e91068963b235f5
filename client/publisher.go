package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/perdure/perdure/message"
)

// keptBuffer is the largest buffer of a batch that is used again: a batch of
// 256 KiB fits with a fifth to spare, for its head and its last message.
const keptBuffer = 320 << 10

// errNilMessage refuses a message that is none.
var errNilMessage = refusal(ErrInvalidArgument, nil, "the message is nil")

// Publisher publishes to one endpoint, in order, each message at most once.
// It stays usable across reconnects; only a definite refusal of the endpoint
// ends it.
//
// One goroutine, run, owns the connection: it opens streams and reads outcomes.
// A second sends what is ready. Where nothing is in flight, the caller sends
// itself, since that cannot block and a change of goroutines costs as much as
// the rest of the way to the wire.
type Publisher struct {
	c        *Client
	endpoint string
	cfg      publisherConfig
	ctx      context.Context // ends when the publisher gives up its stream
	stop     context.CancelCauseFunc
	done     chan struct{} // closed when run has ended

	mu struct {
		sync.Mutex
		open       message.Builder // messages that are in no batch yet
		opening    *batch          // their completion; nil if there are none
		win        window
		buffers    [][]byte // of confirmed batches, to be used again
		link       *publishLink
		maxMessage int           // bytes, as the server says
		receipt    Receipt       // what every receipt of the session has in common
		down       error         // why there is no link
		doubted    time.Time     // since when servers do not know the session; zero if they do
		expiry     *time.Timer   // set while there is no link and retrying ends some day
		hold       time.Time     // nothing is sent before, after a rejection
		pauses     pauses        // between rejections
		space      chan struct{} // closed when there may be room; nil if nobody waits
		flush      bool          // the open batch is to go as soon as there is room
		closed     bool
		err        error // set when the publisher has ended
		firstErr   error // of a batch, since the last Flush
	}
}

// Publisher returns a publisher to an endpoint, once it has a session with the
// leader of the endpoint's store. It waits for that until ctx or the retry
// duration ends; a definite refusal, such as ErrNoSuchEndpoint, comes at once.
func (c *Client) Publisher(ctx context.Context, endpoint string, opts ...PublisherOption) (*Publisher, error) {
	p := &Publisher{
		c: c, endpoint: endpoint,
		cfg: publisherConfig{
			retry: c.cfg.retry, batchTarget: DefaultBatchTarget,
			windowBatches: DefaultWindowBatches, windowBytes: DefaultWindowBytes,
		},
		done: make(chan struct{}),
	}
	for _, o := range opts {
		o.applyPublisher(&p.cfg)
	}
	if err := p.cfg.validate(); err != nil {
		return nil, err
	}
	if err := message.ValidName(endpoint); err != nil {
		return nil, refusal(ErrInvalidName, err, "endpoint: %v", err)
	}
	p.ctx, p.stop = context.WithCancelCause(c.ctx)
	p.mu.win = newWindow(p.cfg.windowBatches, p.cfg.windowBytes)
	if s := p.cfg.session; s != nil {
		p.mu.win.resume(*s)
	}
	if err := c.adopt(p); err != nil {
		p.stop(err)
		return nil, err
	}
	l, err := p.connect(ctx, p.cfg.retry, nil)
	if err != nil {
		p.stop(err)
		close(p.done)
		c.release(p)
		return nil, during(err, "publisher to %q", endpoint)
	}
	p.attach(l) // fits: there was no session before
	go p.run(l)
	return p, nil
}

// Publish sends a message and waits until it is stored. The message may be
// reused. If ctx ends while there is no room the message was not sent; if it
// ends later the message stays on its way, and the error is ErrOutcomeUnknown
// joined with that of ctx.
func (p *Publisher) Publish(ctx context.Context, m *message.Message) (Receipt, error) {
	return p.PublishAsync(ctx, m).Wait(ctx)
}

// PublishAsync encodes a message, which may be reused, and returns at once while
// the window has room. Otherwise it waits for room until ctx ends, or with
// WithFailWhenFull fails with ErrWindowFull. Errors come from the future.
func (p *Publisher) PublishAsync(ctx context.Context, m *message.Message) Future {
	if ctx.Err() != nil {
		return Future{b: failedBatch(context.Cause(ctx))} // definite: not sent
	}
	if m == nil {
		return Future{b: failedBatch(errNilMessage)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.refused(); err != nil {
			return Future{b: failedBatch(err)}
		}
		full := p.mu.opening != nil && p.mu.open.Size() >= p.cfg.batchTarget
		if !full {
			err := p.mu.open.Add(m)
			if err == nil {
				break
			}
			if !errors.Is(err, message.ErrFull) || p.mu.opening == nil {
				return Future{b: failedBatch(encodingError(err))}
			}
		}
		if p.seal() {
			p.kick()
			continue
		}
		if err := p.waitForSpace(ctx); err != nil {
			return Future{b: failedBatch(err)}
		}
	}
	if p.mu.opening == nil {
		p.mu.opening = newBatch()
		p.mu.opening.born = time.Now()
		p.armExpiry()
	}
	f := Future{b: p.mu.opening, i: p.mu.open.Len() - 1}
	p.kick()
	return f
}

// PublishBatch sends messages as one batch and waits until all of them are
// stored, or none. More than 65,535 messages, or more than 1 MiB of several, are
// ErrBatchTooLarge, and nothing is sent. The messages may be reused.
func (p *Publisher) PublishBatch(ctx context.Context, ms []*message.Message) ([]Receipt, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	b, err := p.encodeBatch(ms)
	if err != nil {
		return nil, err
	}
	if err := p.pushBatch(ctx, b); err != nil {
		return nil, err
	}
	first, err := Future{b: b}.Wait(ctx)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(ms))
	for i := range receipts {
		receipts[i] = first
		if first.ID != 0 {
			receipts[i].ID += message.ID(i)
		}
	}
	return receipts, nil
}

func (p *Publisher) encodeBatch(ms []*message.Message) (*batch, error) {
	if len(ms) > message.MaxBatchMessages {
		return nil, refusal(ErrBatchTooLarge, nil, "%d messages, a batch has at most %d; nothing was sent", len(ms), message.MaxBatchMessages)
	}
	var builder message.Builder
	p.mu.Lock()
	builder.SetMaxMessageSize(p.mu.maxMessage)
	p.mu.Unlock()
	for i, m := range ms {
		if m == nil {
			return nil, during(errNilMessage, "message %d of %d, nothing was sent", i+1, len(ms))
		}
		err := builder.Add(m)
		switch {
		case errors.Is(err, message.ErrFull):
			return nil, refusal(ErrBatchTooLarge, err, "message %d of %d takes the batch over %d bytes; nothing was sent", i+1, len(ms), message.MaxBatchSize)
		case err != nil:
			return nil, during(encodingError(err), "message %d of %d, nothing was sent", i+1, len(ms))
		}
	}
	b := newBatch()
	b.data, _ = builder.Finish(p.encoding(), nil)
	b.count = len(ms)
	return b, nil
}

// pushBatch puts b behind what was published before.
func (p *Publisher) pushBatch(ctx context.Context, b *batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.refused(); err != nil {
			return err
		}
		if (p.mu.opening == nil || p.seal()) && p.mu.win.room(len(b.data)) {
			break
		}
		p.kick()
		if err := p.waitForSpace(ctx); err != nil {
			return err
		}
	}
	b.born = time.Now()
	p.mu.win.push(b)
	p.armExpiry()
	p.kick()
	return nil
}

// Flush waits until everything published before has an outcome, or ctx ends.
// Where the endpoint confirms nothing, the outcome is that it was handed to the
// connection; Close waits until the server has taken it.
// It returns the first error of a message since the last Flush, also where a
// Future has reported it.
func (p *Publisher) Flush(ctx context.Context) error {
	if err := p.await(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.mu.firstErr
	p.mu.firstErr = nil
	return err
}

// await waits until everything published before has an outcome.
func (p *Publisher) await(ctx context.Context) error {
	p.mu.Lock()
	last := p.last()
	if p.mu.opening != nil {
		p.mu.flush = true
		p.kick()
	}
	p.mu.Unlock()
	if last == nil {
		return nil
	}
	select {
	case <-last.done:
		return nil
	case <-ctx.Done():
		return errors.Join(ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// last returns the newest batch that has no outcome, or nil.
func (p *Publisher) last() *batch {
	if p.mu.opening != nil {
		return p.mu.opening
	}
	if n := len(p.mu.win.batches); n > 0 {
		return p.mu.win.batches[n-1]
	}
	return nil
}

// Close refuses new messages, waits until the others have an outcome, and ends
// the session. If ctx ends first, the others end too, as ErrOutcomeUnknown where
// they were sent, and Close returns the reason. Further calls wait as well.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	first := !p.mu.closed
	p.mu.closed = true
	p.wakeWaiting()
	p.mu.Unlock()
	err := p.await(ctx)
	switch {
	case err != nil:
	case first:
		err = p.drain(ctx)
	default:
		select {
		case <-p.done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	p.stop(ErrClosed)
	<-p.done
	p.c.release(p)
	if err != nil {
		return during(err, "publisher to %q closed early", p.endpoint)
	}
	return nil
}

// refused says why nothing more is taken, or nil.
func (p *Publisher) refused() error {
	switch {
	case p.mu.err != nil:
		return p.mu.err
	case p.mu.closed:
		return ErrClosed
	case p.mu.link == nil && p.cfg.retry == RetryNever:
		return during(p.mu.down, "publish to %q", p.endpoint)
	}
	return nil
}

// seal makes a batch of the open messages if the window has room.
func (p *Publisher) seal() bool {
	if !p.mu.win.room(p.mu.open.Size()) {
		return false
	}
	var next []byte
	if n := len(p.mu.buffers); n > 0 {
		next, p.mu.buffers = p.mu.buffers[n-1], p.mu.buffers[:n-1]
	}
	b := p.mu.opening
	b.count = p.mu.open.Len()
	b.data, b.memory = p.mu.open.Finish(p.encoding(), next)
	p.mu.win.push(b)
	p.dropOpen()
	return true
}

func (p *Publisher) encoding() message.Options {
	return message.Options{Head: p.cfg.compression, Body: p.cfg.compression}
}

func (p *Publisher) dropOpen() {
	p.mu.open.Reset()
	p.mu.opening = nil
	p.mu.flush = false
}

// recycle takes the buffer of a batch that was confirmed by the only stream it
// was handed to. The server has read all of it then, so nobody reads it here.
func (p *Publisher) recycle(b *batch) {
	if n := cap(b.memory); b.handed == 1 && n > 0 && n <= keptBuffer && len(p.mu.buffers) <= p.cfg.windowBatches {
		p.mu.buffers = append(p.mu.buffers, b.memory)
	}
	b.data, b.memory = nil, nil
}

// waitForSpace waits, without the lock, until something has changed.
func (p *Publisher) waitForSpace(ctx context.Context) error {
	if p.cfg.failWhenFull {
		return refusal(ErrWindowFull, nil, "%d batches of endpoint %q are unconfirmed; nothing was sent", len(p.mu.win.batches), p.endpoint)
	}
	if p.mu.space == nil {
		p.mu.space = make(chan struct{})
	}
	space := p.mu.space
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-space:
		return nil
	case <-ctx.Done():
		return refusal(ErrWindowFull, context.Cause(ctx), "no room for endpoint %q in time, nothing was sent: %v", p.endpoint, context.Cause(ctx))
	}
}

// wakeWaiting wakes whoever waits for room.
func (p *Publisher) wakeWaiting() {
	if p.mu.space != nil {
		close(p.mu.space)
		p.mu.space = nil
	}
}

// settle completes a batch that has left the window.
func (p *Publisher) settle(b *batch, r Receipt, err error) {
	if err != nil && !b.complete && p.mu.firstErr == nil {
		p.mu.firstErr = err
	}
	b.finish(r, err)
	p.wakeWaiting()
}
