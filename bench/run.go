package bench

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/client"
)

// usagePoll is how often servers are asked for their memory.
const usagePoll = 200 * time.Millisecond

// run is one run of a scenario: the clients it has, the goroutines that work,
// and what all of them have to know.
type run struct {
	load   Load
	ctx    context.Context // ends when something has failed
	cancel context.CancelCauseFunc
	base   time.Time // bodies carry the time since then

	feeds     []*feed
	groups    []*group
	measuring atomic.Bool // times are recorded
	over      atomic.Bool // publishers stop
	peak      atomic.Int64

	publishing sync.WaitGroup
	consuming  sync.WaitGroup
	watching   sync.WaitGroup
	watched    context.CancelFunc

	asking   *client.Admin // see admin
	counters counters

	mu      sync.Mutex
	clients []*client.Client
	phase   string
	since   time.Time
	counted func() int64
}

func newRun(ctx context.Context, l Load) *run {
	r := &run{load: l, base: time.Now(), phase: "connect", since: time.Now(), counted: func() int64 { return 0 }}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	var watching context.Context
	watching, r.watched = context.WithCancel(r.ctx)
	r.watching.Go(func() { r.watch(watching) })
	return r
}

// close ends everything that runs and waits for it.
func (r *run) close() {
	r.over.Store(true)
	r.watched()
	r.watching.Wait()
	r.cancel(nil)
	r.publishing.Wait()
	r.consuming.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var closing sync.WaitGroup
	for _, c := range r.clients {
		closing.Go(func() { _ = c.Close(ctx) }) // what it could say is known
	}
	closing.Wait()
}

// connect returns a client that close closes.
func (r *run) connect(name string) (*client.Client, error) {
	c, err := r.load.Connect(r.ctx, name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients = append(r.clients, c)
	return c, nil
}

// fail ends the run, unless it has ended.
func (r *run) fail(err error) {
	if err != nil {
		r.cancel(err)
	}
}

// enter names what is done from now on, and how it is counted.
func (r *run) enter(phase string, counted func() int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.since, r.counted = phase, time.Now(), counted
}

// watch notes the servers' memory, and tells how it goes.
func (r *run) watch(ctx context.Context) {
	tick := time.NewTicker(usagePoll)
	defer tick.Stop()
	told, last := time.Now(), int64(0)
	lastPhase := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.noteMemory()
		if r.load.Progress == nil || time.Since(told) < time.Second {
			continue
		}
		r.mu.Lock()
		phase, since, now := r.phase, r.since, r.counted()
		r.mu.Unlock()
		if phase != lastPhase {
			lastPhase, last = phase, 0
			told = since
		}
		r.load.Progress(Progress{
			Phase: phase, Elapsed: time.Since(since), Messages: now,
			MsgsPerSec: ratio(float64(now-last), time.Since(told).Seconds()),
		})
		told, last = time.Now(), now
	}
}

func (r *run) noteMemory() {
	if r.load.Usage == nil {
		return
	}
	u, err := r.load.Usage()
	r.fail(err)
	r.peak.Store(max(r.peak.Load(), u.RSS))
}

// begin returns the state of what is counted before something is measured. count
// may be nil. The clock is looked at last, as end does first: what asking takes
// is not in the time; what servers count has messages of its own.
func (r *run) begin(count func() int64) (m moment, err error) {
	if err := r.ask(&m, count); err != nil {
		return m, err
	}
	if err := r.use(&m); err != nil {
		return m, err
	}
	m.look(count)
	return m, nil
}

// end returns the same afterwards.
func (r *run) end(count func() int64) (m moment, err error) {
	m.look(count)
	if err := r.use(&m); err != nil {
		return m, err
	}
	return m, r.ask(&m, count)
}

// ask notes what the servers have counted, and for how many messages.
func (r *run) ask(m *moment, count func() int64) (err error) {
	m.counts, m.counted, err = r.count(r.ctx)
	if count != nil {
		m.when = count()
	}
	return err
}

// look notes the time and how much is done.
func (m *moment) look(count func() int64) {
	m.at = time.Now()
	if count != nil {
		m.messages = count()
	}
}

// use notes what processes have used.
func (r *run) use(m *moment) (err error) {
	m.clients, _ = ProcessCPU(os.Getpid()) // unknown on some systems: 0 says so
	if r.load.Usage == nil {
		return nil
	}
	if m.servers, err = r.load.Usage(); err == nil {
		r.peak.Store(max(r.peak.Load(), m.servers.RSS))
	}
	return err
}

// window lets the load that runs go on for the warm-up and for the duration,
// and returns the figures of the latter. count says how far the load is.
func (r *run) window(count func() int64) (*Figures, error) {
	r.enter("warm-up", count)
	if err := r.sleep(r.load.Warmup); err != nil {
		return nil, err
	}
	from, err := r.begin(count)
	if err != nil {
		return nil, err
	}
	r.enter("measure", func() int64 { return count() - from.messages })
	r.measuring.Store(true)
	if err := r.sleep(r.load.Duration); err != nil {
		return nil, err
	}
	r.measuring.Store(false)
	to, err := r.end(count)
	if err != nil {
		return nil, err
	}
	if to.messages == from.messages {
		return nil, fmt.Errorf("nothing was done within %v; measure for longer", r.load.Duration)
	}
	f := r.figures(from, to)
	f.Warmup, f.Duration = r.load.Warmup.Seconds(), r.load.Duration.Seconds()
	return f, nil
}

// figures returns those of the time between two moments, without percentiles.
func (r *run) figures(from, to moment) *Figures {
	l := &r.load
	f := &Figures{
		Scenario: l.Scenario, Size: l.Size, Publishers: l.Publishers, Window: l.Window, Batch: l.Batch,
		Together: l.Together, Sync: l.Sync, Workers: l.Workers, Prefetch: l.Prefetch, Fast: l.Fast, PeakAnon: r.peak.Load(),
	}
	if l.Sync || l.Together > 0 {
		f.Window, f.Batch = 0, 0 // what is sent has its end
	}
	if l.Servers != nil {
		f.Servers = len(l.Servers.Names())
	}
	f.rates(from, to)
	return f
}

// finish stops the publishers, waits until all of theirs is confirmed, and puts
// the times together.
func (r *run) finish(f *Figures) (*Figures, error) {
	r.over.Store(true)
	r.publishing.Wait()
	if err := context.Cause(r.ctx); err != nil {
		return nil, err
	}
	if r.load.Servers == nil && len(r.groups) > 0 {
		if err := r.leaveNothing(); err != nil {
			return nil, err
		}
	}
	r.cancelConsumers()
	r.collect(f)
	return f, nil
}

func (r *run) cancelConsumers() {
	for _, g := range r.groups {
		g.stop()
	}
	r.consuming.Wait()
}

// collect merges the times of all publishers and subscribers, which have ended.
func (r *run) collect(f *Figures) {
	if len(r.feeds) > 0 {
		f.Times = newTimes()
	}
	for _, feed := range r.feeds {
		f.Times.Merge(feed.times)
		f.Interested = f.Interested || feed.receipt.Interested
		f.Durability = feed.receipt.Durability.String()
	}
	for _, g := range r.groups {
		for _, w := range g.workers {
			if w.times.TotalCount() == 0 {
				continue
			}
			if f.ReceiveTimes == nil {
				f.ReceiveTimes = newTimes()
			}
			f.ReceiveTimes.Merge(w.times)
		}
	}
	f.percentiles()
}

// sleep waits for d, or until the run ends.
func (r *run) sleep(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}
