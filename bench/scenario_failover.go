package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// failover publishes one by one to every cluster and kills, with SIGKILL, the
// server that leads the first one, again and again. A gap is from the last
// confirmation before to the first after a kill, as the first publisher sees it.
// All that was published is consumed and compared.
func failover(r *run) (*Figures, error) {
	r.load.Sync = true
	l := &ledger{}
	for i := range r.load.Clusters {
		endpoint := numbered(r.load.Endpoint, i)
		g, err := r.consume(endpoint, "", 1)
		if err != nil {
			return nil, err
		}
		g.look = l.look
		for range r.load.Publishers {
			f, err := r.feedTo(endpoint)
			if err != nil {
				return nil, err
			}
			l.number(f)
		}
	}
	admin, err := r.admin()
	if err != nil {
		return nil, err
	}
	p := &probe{last: time.Now()}
	r.feeds[0].noted = func(receipt client.Receipt, began, now time.Time) {
		l.note(receipt)
		p.note(began, now)
	}
	r.start(false, false)
	r.publish(func(f *feed, ctx context.Context) error { return f.oneByOne(ctx, untilOver) })
	from, err := r.begin(r.confirmed)
	if err != nil {
		return nil, err
	}
	r.measuring.Store(true)
	gaps, err := r.killLeaders(admin, p)
	if err != nil {
		return nil, err
	}
	r.measuring.Store(false)
	to, err := r.end(r.confirmed)
	if err != nil {
		return nil, err
	}
	r.over.Store(true)
	r.publishing.Wait()
	r.enter("compare", l.distinct.Load)
	if err := l.await(r); err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Clusters, f.Warmup = r.load.Clusters, r.load.Warmup.Seconds()
	f, err = r.finish(f)
	if err != nil {
		return nil, err
	}
	f.More = l.more(r.confirmed(), gaps)
	f.More["redelivered"] = float64(r.repeated())
	return f, nil
}

// killLeaders kills as often as the load says, and returns the gaps. A server is
// started again before the next is killed.
func (r *run) killLeaders(admin *client.Admin, p *probe) ([]time.Duration, error) {
	var gaps []time.Duration
	for i := range r.load.Kills {
		r.enter(fmt.Sprintf("kill %d", i+1), r.confirmed)
		if err := r.sleep(r.load.Warmup); err != nil {
			return nil, err
		}
		s, err := admin.Status(r.ctx)
		if err != nil {
			return nil, err
		}
		cluster := clusterOf(s, r.load.Endpoint)
		if cluster == nil || cluster.Leader == "" {
			return nil, errors.New("status names no leader to kill")
		}
		if cluster.Durability == client.Memory.String() && r.load.Kills > 1 {
			return nil, errors.New("a server that kept messages in memory is fenced when it starts again: ask for one kill")
		}
		gap, err := p.kill(r, cluster.Leader)
		if err != nil {
			return nil, err
		}
		gaps = append(gaps, gap)
		if i+1 == r.load.Kills {
			break
		}
		if err := r.load.Servers.Start(cluster.Leader); err != nil {
			return nil, err
		}
		if err := r.ready(); err != nil {
			return nil, err
		}
	}
	return gaps, nil
}

// ready waits until the servers are.
func (r *run) ready() error {
	ctx, cancel := context.WithTimeoutCause(r.ctx, startPatience, fmt.Errorf("waited %v", startPatience))
	defer cancel()
	return r.load.Servers.Ready(ctx)
}

// probe watches the confirmations of one publisher that publishes one by one.
type probe struct {
	mu    sync.Mutex
	last  time.Time     // confirmation
	gone  time.Time     // when the killed process was; zero while none is
	worst time.Duration // between two confirmations since the kill
	armed bool
	done  chan struct{}
}

// note is called with each confirmation.
func (p *probe) note(began, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed {
		p.worst = max(p.worst, now.Sub(p.last))
		// The answer to an older call may have been on its way when the leader
		// died; that of a later one can only come from its successor.
		if !p.gone.IsZero() && began.After(p.gone) {
			p.armed = false
			close(p.done)
		}
	}
	p.last = now
}

// kill kills a server and returns the gap.
func (p *probe) kill(r *run, server string) (time.Duration, error) {
	if err := r.lastWords(server); err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.worst, p.gone, p.armed, p.done = 0, time.Time{}, true, make(chan struct{})
	p.mu.Unlock()
	if err := r.load.Servers.Kill(server); err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.gone = time.Now()
	p.mu.Unlock()
	select {
	case <-p.done:
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.worst, nil
}

// ledger compares what was published with what comes.
type ledger struct {
	mu       sync.Mutex
	ids      []map[uint64]message.ID // by publisher: which id a message came with
	twice    int                     // messages that came under two ids
	distinct atomic.Int64
	stored   atomic.Int64 // resent, and found stored
}

// publisherShift leaves room for a thousand thousand million messages each.
const publisherShift = 40

// number makes a publisher number its messages.
func (l *ledger) number(f *feed) {
	l.ids = append(l.ids, map[uint64]message.ID{})
	first := uint64(f.number-1) << publisherShift
	f.prepare = func(m *message.Message, i int) {
		binary.LittleEndian.PutUint64(m.Body, first|uint64(i))
	}
	f.noted = func(receipt client.Receipt, _, _ time.Time) { l.note(receipt) }
}

func (l *ledger) note(receipt client.Receipt) {
	if receipt.Duplicate {
		l.stored.Add(1)
	}
}

// look notes a delivery.
func (l *ledger) look(d client.Delivery, body []byte) error {
	n := binary.LittleEndian.Uint64(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	from := n >> publisherShift
	if from >= uint64(len(l.ids)) {
		return fmt.Errorf("message %v is none of ours", d.ID())
	}
	id, known := l.ids[from][n]
	switch {
	case !known:
		l.ids[from][n] = d.ID()
		l.distinct.Add(1)
	case id != d.ID():
		l.twice++
	}
	return nil
}

// comparePatience is how long nothing may come before what is missing is lost.
const comparePatience = 10 * time.Second

// await waits until all that is confirmed has come, or nothing comes any more.
func (l *ledger) await(r *run) error {
	last, since := int64(-1), time.Now()
	for l.distinct.Load() < r.confirmed() {
		if n := l.distinct.Load(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > comparePatience {
			return nil // more says what is lost
		}
		if err := r.sleep(readyPoll); err != nil {
			return err
		}
	}
	return nil
}

// more returns what the comparison and the kills say.
func (l *ledger) more(confirmed int64, gaps []time.Duration) map[string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]float64{
		"kills": float64(len(gaps)), "lost": float64(max(0, confirmed-l.distinct.Load())),
		"duplicates": float64(l.twice), "resent_and_stored": float64(l.stored.Load()),
	}
	var ms []float64
	for _, gap := range gaps {
		ms = append(ms, rounded(float64(gap)/float64(time.Millisecond)))
	}
	if len(ms) > 0 {
		m["gap_ms_min"], m["gap_ms_p50"], m["gap_ms_max"] = slices.Min(ms), Median(ms), slices.Max(ms)
	}
	return m
}
