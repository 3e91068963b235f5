package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/client"
)

// demoReport is what `demo -o json` prints. The keys are a promise.
type demoReport struct {
	Published         int                    `json:"published"`
	Confirmed         int                    `json:"confirmed"`
	Durables          map[string]demoDurable `json:"durables"`
	Killed            string                 `json:"killed"`
	NewLeader         string                 `json:"new_leader"`
	FailoverMS        int64                  `json:"failover_ms"`
	PublishP50        int64                  `json:"publish_p50_us"`
	PublishP99        int64                  `json:"publish_p99_us"`
	ReplicasIdentical bool                   `json:"replicas_identical"`

	replicas string // how they differ
}

type demoDurable struct {
	Delivered   int   `json:"delivered"`   // deliveries, repeated ones included
	Distinct    int   `json:"distinct"`    // messages
	Redelivered int   `json:"redelivered"` // deliveries with a count above 0
	Lost        int   `json:"lost"`        // confirmed and never delivered
	OutOfOrder  int   `json:"out_of_order"`
	Duplicated  int   `json:"duplicated"` // published once, stored twice
	Pending     int64 `json:"pending"`    // at the end; -1 is unknown
}

func (d *demo) report(sent *publication) *demoReport {
	return &demoReport{
		Published: sent.published, Confirmed: sent.count(),
		Durables: map[string]demoDurable{"audit": d.audit.figures(sent), "delays": d.delays.figures(sent)},
		Killed:   d.killed, NewLeader: sent.newLeader, FailoverMS: sent.failover.Milliseconds(),
		PublishP50: sent.latency.ValueAtQuantile(50), PublishP99: sent.latency.ValueAtQuantile(99),
	}
}

// read takes over what the servers say. It returns true when all replicas have
// applied the same, with nothing pending: there is nothing to wait for then.
func (r *demoReport) read(s *client.Status) bool {
	settled := true
	for _, c := range s.Clusters {
		if c.Name != demoCluster {
			continue
		}
		for _, store := range c.Stores {
			for _, durable := range store.Durables {
				if f, ours := r.Durables[durable.Name]; ours && store.Name == demoStore {
					f.Pending = int64(durable.Pending)
					r.Durables[durable.Name] = f
					settled = settled && f.Pending == 0
				}
			}
		}
		same, hashes := len(c.Services) == demoServers, true
		var seen []string
		for _, service := range c.Services {
			first := c.Services[0]
			same = same && service.StateHash != "" && service.Applied == first.Applied
			hashes = hashes && service.StateHash == first.StateHash
			seen = append(seen, fmt.Sprintf("%s %s applied %d hash %s", service.Server, service.State, service.Applied, service.StateHash))
		}
		r.ReplicasIdentical = same && hashes
		r.replicas = strings.Join(seen, ", ")
		return same && settled
	}
	return false
}

// wrong says what is not as it must be, or "".
func (r *demoReport) wrong() string {
	var list []string
	bad := func(n int, what string) {
		if n != 0 {
			list = append(list, fmt.Sprintf("%s %s", grouped(n), what))
		}
	}
	bad(r.Published-r.Confirmed, "messages were not confirmed")
	for _, name := range []string{"audit", "delays"} {
		f := r.Durables[name]
		bad(f.Lost, "confirmed messages never reached "+name)
		bad(f.Duplicated, "messages are twice in the store, says "+name)
		switch {
		case f.Pending < 0:
			list = append(list, "nobody knows what is pending on "+name)
		case f.Pending > 0:
			bad(int(f.Pending), "messages are still pending on "+name)
		}
	}
	bad(r.Durables["audit"].OutOfOrder, "messages reached audit out of order")
	if !r.ReplicasIdentical {
		list = append(list, "the replicas differ: "+r.replicas)
	}
	return strings.Join(list, "; ")
}

func (r *demoReport) print(w io.Writer) {
	var rows [][]any
	for _, name := range []string{"audit", "delays"} {
		f := r.Durables[name]
		rows = append(rows, []any{
			name, grouped(f.Delivered), grouped(f.Distinct), grouped(f.Redelivered),
			grouped(f.Lost), grouped(f.OutOfOrder), grouped(f.Pending),
		})
	}
	printTable(w, []string{"durable", "delivered", "distinct", "redelivered", "lost", "out of order", "pending"}, rows)
	identical := "identical"
	if !r.ReplicasIdentical {
		identical = "DIFFERENT"
	}
	fmt.Fprintln(w, "\nredelivered: deliveries with a count above 0, of messages that may have been delivered before")
	fmt.Fprintf(w, "published %s, confirmed %s; call to confirmation p50 %s us, p99 %s us\n"+
		"killed %s, then led by %s; next confirmation after %d ms; replicas %s\n",
		grouped(r.Published), grouped(r.Confirmed), grouped(r.PublishP50), grouped(r.PublishP99),
		r.Killed, r.NewLeader, r.FailoverMS, identical)
}

// watcher shows progress: on a terminal in one line that is written over,
// elsewhere a line a second.
type watcher struct {
	w         io.Writer
	terminal  bool
	total     int
	confirmed atomic.Int64
	began     time.Time
	quit      chan struct{}
	done      chan struct{}
	once      sync.Once

	mu struct {
		sync.Mutex // guards writing
		open       bool
	}
}

func newWatcher(w io.Writer, total int) *watcher {
	return &watcher{w: w, terminal: isTerminal(w), total: total, began: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
}

// say writes an event.
func (s *watcher) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.open {
		fmt.Fprintln(s.w)
		s.mu.open = false
	}
	fmt.Fprintf(s.w, "%6.1fs  "+format+"\n", append([]any{time.Since(s.began).Seconds()}, args...)...)
}

// start shows how far everything is until stop.
func (s *watcher) start(durables ...*consumption) {
	interval := time.Second
	if s.terminal {
		interval = 100 * time.Millisecond
	}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-s.quit:
				return
			case <-tick.C:
				s.show(durables)
			}
		}
	}()
}

func (s *watcher) show(durables []*consumption) {
	text := fmt.Sprintf("confirmed %s of %s", grouped(s.confirmed.Load()), grouped(s.total))
	for _, c := range durables {
		text += fmt.Sprintf(", %s %s", c.durable, grouped(c.distinct()))
	}
	if !s.terminal {
		s.say("%s", text)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "\r\x1b[K%6.1fs  %s", time.Since(s.began).Seconds(), text)
	s.mu.open = true
}

// stop ends the showing and waits for it; start must have been called.
func (s *watcher) stop() {
	s.once.Do(func() {
		close(s.quit)
		<-s.done
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.open {
			fmt.Fprintln(s.w)
			s.mu.open = false
		}
	})
}
