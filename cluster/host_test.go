package cluster

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func openHost(t *testing.T) *Host {
	h := OpenHost(HostOptions{Server: 1, Incarnation: 1, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// An echo says when its clock left, however late it is told.
func TestEchoIsAsOldAsItsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHost(t)
		h.PeerUp(2)
		left, before := time.Now(), h.now().Mono
		time.Sleep(time.Second)
		h.Wall(2, 0, 0)
		h.Echo(2, left)
		if seen := h.seen(2); seen <= 0 || seen > before {
			t.Errorf("seen at %d, the clock left before %d", seen, before)
		}
	})
}

// sleeper is a group that is quiet at once. It counts how often it was told of
// a server that is silent for longer than its patience, and how often it was asked.
type sleeper struct {
	member
	asked, told atomic.Int64
}

func (s *sleeper) tick(int64) bool { return false }
func (s *sleeper) patience() int64 { return int64(500 * time.Millisecond) }
func (s *sleeper) peerDown(uint64) { s.told.Add(1) }
func (s *sleeper) watch(silence func(uint64, bool) int64) {
	s.asked.Add(1)
	if silence(2, false) >= s.patience() || silence(3, true) >= s.patience() {
		s.told.Add(1)
	}
}

func (h *Host) sleep(t *testing.T, group uint64) *sleeper {
	s := &sleeper{}
	if err := h.add(replicaKey{group, 1}, s); err != nil {
		t.Fatal(err)
	}
	h.arrive(s)
	return s
}

// Quiet groups are not looked at for ever because a server is down, and are told
// all the same, also those that go quiet later.
func TestServerThatIsDownCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHost(t)
		pass := func(beats int, servers ...uint64) {
			for range beats {
				for _, s := range servers {
					h.Wall(s, 0, 0)
					h.Echo(s, time.Now())
				}
				time.Sleep(Beat)
				synctest.Wait()
			}
		}
		h.PeerUp(2)
		h.PeerUp(3)
		pass(2, 2, 3)
		first := h.sleep(t, 1)
		if pass(20, 2, 3); first.asked.Load() != 1 || first.told.Load() != 0 {
			t.Errorf("all servers live: asked %d times, told %d", first.asked.Load(), first.told.Load())
		}
		pass(20, 3)
		if first.told.Load() == 0 {
			t.Error("not told of a server that is silent")
		}
		h.PeerDown(2)
		told, asked := first.told.Load(), first.asked.Load()
		h.Wall(2, 0, 0) // of a connection that is about to end
		if pass(100, 3); first.asked.Load() != asked || told == 0 {
			t.Errorf("asked %d times more while a server is down", first.asked.Load()-asked)
		}
		late := h.sleep(t, 2)
		if pass(1, 3); late.told.Load() != 1 || late.asked.Load() != 1 {
			t.Errorf("went quiet while a server is down: asked %d times, told %d", late.asked.Load(), late.told.Load())
		}
		h.PeerUp(2)
		pass(1, 2, 3)
		again := h.sleep(t, 3)
		if pass(20, 2, 3); again.told.Load() != 0 {
			t.Error("told that a server is silent that is up again")
		}
	})
}
