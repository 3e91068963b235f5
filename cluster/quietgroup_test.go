package cluster_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/cluster"
)

// live lets the servers of a trio show each other that they live, but for those
// that are mute and over links that are cut. The function it returns ends that.
func (c *trio) live(mute *atomic.Uint64) (end func()) {
	for i, h := range c.hosts {
		for o := range c.hosts {
			if o != i {
				h.PeerUp(uint64(o + 1))
			}
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			for i := range c.hosts {
				for o := range c.hosts {
					from, to := uint64(i+1), uint64(o+1)
					if i == o || mute.Load() == from || mute.Load() == to {
						continue
					}
					// The echo comes back on the flow that the clock came on.
					if there := c.net.receiver(from, to); there != nil {
						there.Wall(from, 0, 0)
						c.hosts[i].Echo(to, time.Now())
					}
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}

func (c *trio) messages() (n int) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, k := range c.net.sent {
		n += k
	}
	return n
}

// An idle group sends nothing while the servers live, and elects when that of its
// leader is silent, though all connections stand.
func TestServersKeepQuietGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 2, cluster.Beat)
		var mute atomic.Uint64
		defer c.live(&mute)()
		first := c.leader()
		time.Sleep(10 * time.Second)
		before := c.messages()
		time.Sleep(20 * time.Second)
		if sent := c.messages() - before; sent != 0 || c.leader() != first {
			t.Errorf("%d messages in 20 s without traffic; leader %d, before %d", sent, c.leader(), first)
		}
		if a := <-propose(t, c.groups[first], "a"); a.err != nil {
			t.Error(a.err)
		}
		time.Sleep(10 * time.Second)
		mute.Store(uint64(first + 1)) // as if its process were paused
		time.Sleep(3 * time.Second)
		if got := c.leader(); got == first || c.groups[first].Leads() {
			t.Errorf("leader %d: nothing was heard of its server for 3 s", got)
		}
		mute.Store(0)
		time.Sleep(10 * time.Second)
		first, before = c.leader(), c.messages()
		time.Sleep(time.Second)
		if sent := c.messages() - before; sent != 0 {
			t.Errorf("%d messages, though the server answers again", sent)
		}
		c.net.isolate(uint64(first+1), true)
		time.Sleep(2 * time.Second)
		next := -1
		for i, g := range c.groups {
			if i != first && g.Leads() {
				next = i
			}
		}
		if next < 0 {
			t.Fatal("the leader is cut off, and nobody else leads after 2 s")
		}
		if c.groups[first].Leads() {
			t.Error("the leader that is cut off still leads after 2 s")
		}
		if a := <-propose(t, c.groups[next], "b"); a.err != nil {
			t.Error(a.err)
		}
	})
}

// A quiet leader that is closed while its server lives on says so: nobody waits
// for the silence of a server.
func TestQuietLeaderIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 2, cluster.Beat)
		var mute atomic.Uint64
		defer c.live(&mute)()
		first := c.leader()
		time.Sleep(10 * time.Second)
		if err := c.groups[first].Close(); err != nil {
			t.Fatal(err)
		}
		if next := c.leader(); next == first {
			t.Errorf("replica %d was closed, and leads", first)
		}
	})
}

// A quiet group notices a leader whose own flows carry nothing any more, though
// it answers on those of the others.
func TestQuietLeaderFallsMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 2, cluster.Beat)
		var mute atomic.Uint64
		defer c.live(&mute)()
		first := c.leader()
		time.Sleep(10 * time.Second)
		c.net.blackhole(uint64(first + 1))
		time.Sleep(3 * time.Second)
		if c.groups[first].Leads() {
			t.Error("the leader reaches nobody, and leads")
		}
		if next := c.leader(); next == first {
			t.Error("nobody else leads, though nothing comes from the leader")
		}
	})
}

// A quiet leader to which nothing comes has no quorum when an election timeout is
// over, though the others still answer on its own flows, and leads no more soon.
func TestQuietLeaderFallsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 2, cluster.Beat)
		var mute atomic.Uint64
		defer c.live(&mute)()
		first := c.leader()
		time.Sleep(10 * time.Second)
		quorum := func() bool {
			s, err := c.groups[first].Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Quorum
		}
		if !quorum() {
			t.Error("no quorum while the group is quiet")
		}
		c.net.blackholeTo(uint64(first + 1))
		time.Sleep(300 * time.Millisecond)
		if !quorum() {
			t.Error("no quorum before the election timeout")
		}
		time.Sleep(400 * time.Millisecond)
		if quorum() {
			t.Error("a quorum, though nothing was heard for longer than the election timeout")
		}
		time.Sleep(3 * time.Second)
		if c.groups[first].Leads() {
			t.Error("the leader hears nobody, and leads")
		}
	})
}
