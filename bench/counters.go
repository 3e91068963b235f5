package bench

import (
	"context"

	"github.com/perdure/perdure/client"
)

// Counts are what servers count themselves, all of them together.
type Counts struct {
	Fsyncs  uint64 // of the log engines
	Objects uint64 // allocated on the heap
	Bytes   uint64 // allocated on the heap
}

func (c Counts) plus(p client.ProcessStatus) Counts {
	return Counts{c.Fsyncs + p.Fsyncs, c.Objects + p.AllocatedObjects, c.Bytes + p.AllocatedBytes}
}

func (c Counts) minus(d Counts) Counts {
	return Counts{c.Fsyncs - d.Fsyncs, c.Objects - d.Objects, c.Bytes - d.Bytes}
}

// counters adds up what servers count. A process that is started again counts
// from 0; what the one before it had counted when it was last asked is kept.
type counters struct {
	past   Counts // of processes that are gone
	last   map[string]client.ProcessStatus
	killed map[string]bool
}

// see takes the answers of all servers, nil of those that gave none, and says
// whether the sum is right: everyone has answered but those that were killed.
func (c *counters) see(answers map[string]*client.ProcessStatus) (Counts, bool) {
	if c.last == nil {
		c.last = map[string]client.ProcessStatus{}
	}
	all := len(answers) > 0
	for name, now := range answers {
		before, seen := c.last[name]
		if now == nil {
			all = all && seen && c.killed[name]
			continue
		}
		if seen && before.Incarnation != now.Incarnation {
			c.past = c.past.plus(before)
		}
		c.last[name] = *now
		delete(c.killed, name)
	}
	sum := c.past
	for _, p := range c.last {
		sum = sum.plus(p)
	}
	return sum, all
}

// gone says that a server was killed, and does not answer until it is started.
func (c *counters) gone(name string) {
	if c.killed == nil {
		c.killed = map[string]bool{}
	}
	c.killed[name] = true
}

// admin returns the client that asks servers how they are.
func (r *run) admin() (*client.Admin, error) {
	if r.asking == nil {
		c, err := r.connect("bench-status")
		if err != nil {
			return nil, err
		}
		r.asking = c.Admin()
	}
	return r.asking, nil
}

// count asks the servers what they have counted. Servers that do not say it, or
// not in time, are no reason to fail.
func (r *run) count(ctx context.Context) (Counts, bool, error) {
	admin, err := r.admin()
	if err != nil {
		return Counts{}, false, err
	}
	answers, err := admin.Processes(ctx)
	if err != nil {
		return Counts{}, false, context.Cause(r.ctx)
	}
	sum, known := r.counters.see(answers)
	return sum, known, nil
}

// lastWords asks what the servers have counted before one of them is killed:
// nobody can ask it any more.
func (r *run) lastWords(name string) error {
	_, _, err := r.count(r.ctx)
	r.counters.gone(name)
	return err
}
