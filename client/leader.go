package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

const (
	firstPause   = 15 * time.Millisecond
	longestPause = 500 * time.Millisecond
	pauseGrowth  = 1.6
	// openTimeout limits one try at one server: a server that hangs must not
	// keep a client from asking the next.
	openTimeout = 2 * time.Second
	// hedge is how long a server may think about a question before the next is
	// asked it as well.
	hedge = 150 * time.Millisecond
)

// pauses are the waits between rounds of tries: jittered, growing, capped.
type pauses struct{ last time.Duration }

func (p *pauses) next() time.Duration {
	if p.last == 0 {
		p.last = firstPause
	} else {
		p.last = min(longestPause, time.Duration(float64(p.last)*pauseGrowth))
	}
	// Two thirds to four thirds, so that clients spread out.
	return min(longestPause, p.last*2/3+rand.N(p.last*2/3))
}

// restarts keeps streams that end as soon as they open from being opened in a
// tight loop. The first is replaced at once.
type restarts struct {
	brief int // that lived less than a second, in a row
	wait  pauses
}

func (r *restarts) pause(ctx context.Context, lived time.Duration) {
	if lived >= time.Second {
		*r = restarts{}
		return
	}
	if r.brief++; r.brief > 1 {
		sleep(ctx, r.wait.next())
	}
}

// seeking says what to look for, and for how long.
type seeking struct {
	endpoint string
	retry    time.Duration // from now on; RetryNever is a single round
	hint     string        // who to try before asking anybody, or ""
	avoid    string        // who to try last, or ""
	resumes  bool          // it worked before: what may be passing is waited for
	// try is called with one address after the other until it returns nil.
	try func(ctx context.Context, address string) error
	// failed is told why a round failed, before the next one.
	failed func(error)
}

// lagging reports whether err is what a server says that has not heard of the
// realm's newest revision yet. Whether an endpoint exists, resolve decides.
func (s *seeking) lagging(err error) bool {
	return errors.Is(err, ErrNoSuchEndpoint) || errors.Is(err, ErrNoSuchStore) ||
		s.resumes && errors.Is(err, ErrAlreadySubscribed) // our last stream is not gone there yet
}

// seek looks for the leader of an endpoint's store until s.try accepts it. It
// returns a definite error at once; that of ctx, or ErrTimeout, joined with the
// last reason, when time is over.
func (c *Client) seek(ctx context.Context, s seeking) error {
	var wait pauses
	start := time.Now()
	var before error // what the last round ended with
	for {
		err := c.round(ctx, &s)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return endOf(ctx, telling(err, before))
		}
		before = err
		if !isRetryable(err) || s.retry == RetryNever {
			return err
		}
		pause := wait.next()
		if s.retry > 0 {
			left := s.retry - time.Since(start)
			if left <= 0 {
				return fmt.Errorf("%w (%v): %w", ErrTimeout, s.retry, err)
			}
			pause = min(pause, left)
		}
		c.cfg.log.Debug("no leader yet", "endpoint", s.endpoint, "err", err)
		if s.failed != nil {
			s.failed(err)
		}
		s.hint = leaderHint(err)
		if !sleep(ctx, pause) {
			return endOf(ctx, err)
		}
	}
}

// telling returns which of two reasons says more: the newer one, unless it is
// only that time was over or that a server could not be reached, and the older
// one is what a server answered.
func telling(newer, older error) error {
	var n, o *Error
	if !errors.As(older, &o) || errors.As(newer, &n) && (n.Reason != "UNAVAILABLE" || o.Reason == "UNAVAILABLE") {
		if newer == nil {
			return older
		}
		return newer
	}
	return older
}

// endOf says that ctx ended while err was the trouble.
func endOf(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// sleep waits, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// round tries the hint, then whoever the servers name: leader first. A hint in
// an answer is followed at once. It returns nil, a definite error, or the most
// telling of the others.
func (c *Client) round(ctx context.Context, s *seeking) error {
	var queue, tried []string
	var trouble error
	if s.hint != "" {
		queue = append(queue, s.hint)
	}
	resolved := false
	for {
		if len(queue) == 0 {
			if resolved {
				return trouble
			}
			resolved = true
			route, err := c.resolve(ctx, s.endpoint)
			if err != nil {
				return err
			}
			queue = addressesOf(route, s.avoid)
			if len(queue) == 0 {
				return &Error{Reason: "NO_LEADER", Retryable: true, Message: fmt.Sprintf("cluster %q of endpoint %q has no server that takes clients", route.Cluster, s.endpoint)}
			}
		}
		address := queue[0]
		queue = queue[1:]
		if slices.Contains(tried, address) {
			continue
		}
		tried = append(tried, address)
		err := s.try(ctx, address)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var e *Error
		if errors.As(err, &e) && (s.lagging(err) || s.resumes && errors.Is(err, ErrInternal)) {
			e.Retryable = true
		}
		if !isRetryable(err) || errors.Is(err, ErrSuspended) {
			return err // only the leader says that it is suspended
		}
		if trouble == nil || errors.Is(trouble, ErrUnavailable) {
			trouble = err
		}
		if hint := leaderHint(err); hint != "" {
			queue = slices.Insert(queue, 0, hint)
		}
	}
}

// addressesOf lists who to try: the leader, then the other candidates, avoid
// last.
func addressesOf(route *perdurepb.ResolveResponse, avoid string) []string {
	var list []string
	add := func(l *perdurepb.Leader) {
		if a := l.GetAddress(); a != "" && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	add(route.Leader)
	for _, l := range route.Candidates {
		add(l)
	}
	if i := slices.Index(list, avoid); i >= 0 {
		list = append(slices.Delete(list, i, i+1), avoid)
	}
	return list
}

// resolve asks the servers where an endpoint leads: one, the next when that
// fails or takes long, and so on. The first answer counts. If there is none, a
// definite refusal wins over servers that could not be reached.
func (c *Client) resolve(ctx context.Context, endpoint string) (*perdurepb.ResolveResponse, error) {
	type answer struct {
		address string
		route   *perdurepb.ResolveResponse
		err     error
	}
	servers := c.inOrder()
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	answers := make(chan answer, len(servers)) // one each, so that none blocks
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()

	asked, pending := 0, 0
	ask := func() {
		address := servers[asked]
		asked++
		pending++
		asking.Go(func() {
			route, err := c.resolveAt(ctx, address, endpoint)
			answers <- answer{address, route, err}
		})
	}
	ask()
	timer := time.NewTicker(hedge)
	defer timer.Stop()
	var errs []error
	for pending > 0 {
		select {
		case <-timer.C:
		case a := <-answers:
			pending--
			if a.err == nil {
				c.prefer(a.address)
				return a.route, nil
			}
			errs = append(errs, a.err)
		}
		if asked < len(servers) && ctx.Err() == nil {
			ask()
		}
	}
	for _, err := range errs {
		if !isRetryable(err) {
			return nil, err
		}
	}
	var why error
	for _, err := range errs {
		why = telling(err, why)
	}
	var answered *Error
	if errors.As(why, &answered) && answered.Reason != "UNAVAILABLE" {
		return nil, why
	}
	return nil, &Error{
		Reason: "UNAVAILABLE", Retryable: true, cause: errs[0],
		Message: fmt.Sprintf("none of %s says where endpoint %q leads: %v", strings.Join(servers, ", "), endpoint, errs[0]),
	}
}

func (c *Client) resolveAt(ctx context.Context, address, endpoint string) (*perdurepb.ResolveResponse, error) {
	cc, err := c.conn(address)
	if err != nil {
		return nil, err
	}
	route, err := perdurepb.NewMessagesClient(cc).Resolve(ctx, &perdurepb.ResolveRequest{Endpoint: endpoint, Name: c.cfg.name})
	return route, fromStatus(address, err)
}

// link is one stream to a leader, and what watches over it. The stream ends
// when cancel is called.
type link struct {
	address  string
	ctx      context.Context
	cancel   context.CancelCauseFunc
	silence  time.Duration // after which the server counts as lost
	watchdog *time.Timer
}

func newLink(parent context.Context, address string) *link {
	l := &link{address: address}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	return l
}

// handshake runs open and cancels the link if that takes too long, if ctx ends
// or if it fails.
func (l *link) handshake(ctx context.Context, open func() error) error {
	timer := time.AfterFunc(openTimeout, func() { l.cancel(silence(l.address, openTimeout)) })
	stop := context.AfterFunc(ctx, func() { l.cancel(context.Cause(ctx)) })
	err := open()
	inTime := timer.Stop()
	inContext := stop()
	if err == nil && inTime && inContext {
		return nil
	}
	err = l.reason(err)
	l.cancel(err)
	return err
}

// watch starts to count silence.
func (l *link) watch(silenceMillis uint64) {
	l.silence = time.Duration(cmp.Or(silenceMillis, 5000)) * time.Millisecond
	l.watchdog = time.AfterFunc(l.silence, func() { l.cancel(silence(l.address, l.silence)) })
}

// heard is called for each frame of the server.
func (l *link) heard() { l.watchdog.Reset(l.silence) }

// silenceError is the cause of an *Error about a server that says nothing. It
// is better asked last.
type silenceError struct{ address string }

func (e *silenceError) Error() string { return "client: server " + e.address + " is silent" }

func silence(address string, d time.Duration) error {
	return &Error{
		Reason: "UNAVAILABLE", Retryable: true, cause: &silenceError{address},
		Message: fmt.Sprintf("server %s was silent for %v", address, d),
	}
}

// end stops the link's timer and stream.
func (l *link) end() {
	if l.watchdog != nil {
		l.watchdog.Stop()
	}
	l.cancel(ErrClosed)
}

// reason says why the stream ended with err: for a cancelled one, who
// cancelled it.
func (l *link) reason(err error) error {
	if cause := context.Cause(l.ctx); cause != nil {
		return cause
	}
	if err == nil {
		err = errors.New("the stream ended")
	}
	return fromStatus(l.address, err)
}

// beat returns how often to look whether a heartbeat is due, so that the other
// side is never silent for longer than it was told.
func beat(heartbeatMillis uint64) time.Duration {
	return time.Duration(cmp.Or(heartbeatMillis, 1000)) * time.Millisecond / 2
}
