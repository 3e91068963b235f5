package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// lines is one stream's outbox in a bubble of fake time.
type lines struct {
	out   *outbox[int]
	pulse *pulse
	block chan struct{} // if not nil, sending waits for it
	err   atomic.Value  // of sending, an error
	began time.Time
	done  chan error

	mu    sync.Mutex
	sent  [][]int
	beats []time.Duration
}

// said returns what was sent so far, and when there were heartbeats. The sender
// may outlive the conversation a little.
func (l *lines) said() (sent string, beats []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.sent), slices.Clone(l.beats)
}

func begin(ctx context.Context, block chan struct{}) *lines {
	l := &lines{out: newOutbox[int](), pulse: newPulse(time.Second, 5*time.Second), block: block, began: time.Now(), done: make(chan error, 1)}
	go func() {
		l.done <- converse(ctx, func(f func()) { go f() }, l.out, l.pulse, l.send, l.idle)
	}()
	return l
}

func (l *lines) send(items []int) error {
	if l.block != nil {
		<-l.block
	}
	l.mu.Lock()
	l.sent = append(l.sent, slices.Clone(items))
	l.mu.Unlock()
	return l.failure()
}

func (l *lines) idle() error {
	l.mu.Lock()
	l.beats = append(l.beats, time.Since(l.began))
	l.mu.Unlock()
	return l.failure()
}

func (l *lines) failure() error {
	err, _ := l.err.Load().(error)
	return err
}

func TestHeartbeatsFillSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t.Context(), nil)
		for i := range 4 { // every 800 ms something is said, by both sides
			time.Sleep(800 * time.Millisecond)
			l.pulse.beat()
			l.out.put(i)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		l.out.end(io.EOF)
		if err := <-l.done; !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		sent, beats := l.said()
		if sent != "[[0] [1] [2] [3]]" {
			t.Errorf("sent %s", sent)
		}
		if fmt.Sprint(beats) != "[5s]" {
			t.Errorf("heartbeats at %v", beats)
		}
	})
}

func TestSilenceEndsAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t.Context(), nil)
		time.Sleep(3 * time.Second)
		l.pulse.beat()
		wantReason(t, <-l.done, perdurepb.Reason_REASON_CLIENT_TIMEOUT)
		if at := time.Since(l.began); at != 8*time.Second {
			t.Errorf("ended after %v", at)
		}
		if _, beats := l.said(); len(beats) < 7 {
			t.Errorf("heartbeats at %v", beats)
		}
	})
}

// A client that neither reads nor speaks is given up while a send to it blocks.
func TestSilenceEndsAStreamThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		l := begin(t.Context(), block)
		l.out.put(1)
		wantReason(t, <-l.done, perdurepb.Reason_REASON_CLIENT_TIMEOUT)
		if at := time.Since(l.began); at != 5*time.Second {
			t.Errorf("ended after %v", at)
		}
		close(block) // as the end of the stream does
	})
}

// Time in which this server did not listen is not the client's silence, unless
// it is the client that does not read.
func TestSilenceIsTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t.Context(), nil)
		err := l.pulse.hold(func() error { time.Sleep(time.Minute); return nil })
		if err != nil || len(l.done) != 0 {
			t.Fatalf("held by the server: %v", err)
		}
		w := make(window, 1)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := l.pulse.owe(t.Context(), w); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Minute) // the answer is not known yet
		if len(l.done) != 0 {
			t.Fatalf("answers that are not known yet: %v", <-l.done)
		}
		w.paid(1)
		wg.Wait()
		l.out.end(io.EOF)
		<-l.done

		ctx, cancel := context.WithCancel(t.Context())
		block := make(chan struct{})
		l = begin(ctx, block)
		l.out.put(1)
		wg.Go(func() { _ = l.pulse.owe(ctx, w) }) // the window is full: ends with ctx
		wantReason(t, <-l.done, perdurepb.Reason_REASON_CLIENT_TIMEOUT)
		cancel()
		close(block)
		wg.Wait()
	})
}

func TestEndComesAfterWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lines{out: newOutbox[int](), pulse: newPulse(time.Second, 5*time.Second)}
		l.out.put(1)
		l.out.put(2)
		l.out.end(errors.New("first"))
		l.out.end(errors.New("second"))
		err := converse(t.Context(), func(f func()) { go f() }, l.out, l.pulse, l.send, l.idle)
		if sent, _ := l.said(); err == nil || err.Error() != "first" || sent != "[[1 2]]" {
			t.Errorf("sent %s, then %v", sent, err)
		}
	})
}

func TestConverseEnds(t *testing.T) {
	for what, end := range map[string]func(*lines, context.CancelCauseFunc) error{
		"by its context": func(_ *lines, cancel context.CancelCauseFunc) error {
			err := errors.New("the client left")
			cancel(err)
			return err
		},
		"when sending fails": func(l *lines, _ context.CancelCauseFunc) error {
			l.err.Store(errors.New("broken pipe"))
			l.out.put(1)
			return l.failure()
		},
		"when a heartbeat fails": func(l *lines, _ context.CancelCauseFunc) error {
			l.err.Store(errors.New("broken pipe"))
			return l.failure()
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				l := begin(ctx, nil)
				synctest.Wait()
				if want, err := end(l, cancel), <-l.done; !errors.Is(err, want) {
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(time.Second, time.Second)
		w := make(window, 3)
		for range 3 {
			if err := p.owe(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() { done <- p.settled(t.Context(), w) }()
		synctest.Wait()
		w.paid(2)
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("settled while one was owed")
		}
		w.paid(1)
		if err := <-done; !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("over"))
		if err := p.owe(ctx, w); err == nil || err.Error() != "over" {
			t.Errorf("full, and over: %v", err)
		}
	})
}

func TestStreamsAfterTheEnd(t *testing.T) {
	s := newStreams(10)
	var told []error
	release, err := s.add(func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	over := faultf(perdurepb.Reason_REASON_STOPPING, "over")
	s.endAll(over)
	if len(told) != 1 || !errors.Is(told[0], over) {
		t.Errorf("told %v", told)
	}
	release()
	if _, err := s.add(func(error) {}); !errors.Is(err, over) {
		t.Errorf("a stream after the end: %v", err)
	}
}

// The same over the wire, in real time.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	n := start(t, replace(t, testRealm, "durability: async", "durability: async\n    client_heartbeat: 100ms\n    client_timeout: 500ms"))
	p := n.mustPublisher("flights")
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	if p.opened.TimeoutMs != 500 || s.opened.HeartbeatMs != 100 {
		t.Errorf("opened %v %v", p.opened, s.opened)
	}
	wantReason(t, p.end(), perdurepb.Reason_REASON_CLIENT_TIMEOUT)
	wantReason(t, s.end(), perdurepb.Reason_REASON_CLIENT_TIMEOUT)
	// What it held is free.
	n.mustPublisher("flights").stored(1, 1, bodies("a"))
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 5}).receive(1)
}

// A heartbeat that goes out just when silence is judged is no proof that the
// client does not read.
func TestASendThatHasJustBegunIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(time.Second, 5*time.Second)
		p.full.Store(true)
		time.Sleep(time.Minute)
		err := p.send(func() error {
			if got := p.silence(); got != 0 {
				t.Errorf("silent for %v when the send began", got)
			}
			time.Sleep(2 * time.Second)
			if got := p.silence(); got != 2*time.Second {
				t.Errorf("silent for %v after 2 s of waiting for the client", got)
			}
			return nil
		})
		if got := p.silence(); err != nil || got != 0 {
			t.Errorf("silent for %v, %v", got, err)
		}
	})
}
