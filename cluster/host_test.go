package cluster

import (
	"log/slog"
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
