package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// A client that takes a frame now and then is left, though each goes out in time;
// however much it had read before. One that reads a little more than it must is not.
func TestSlowReaders(t *testing.T) {
	for name, test := range map[string]struct {
		every   time.Duration // of a chunk
		tooSlow bool
	}{
		"a chunk in 50 s": {50 * time.Second, true},
		"a chunk in 14 s": {14 * time.Second, false},
		"at once":         {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{streams: newStreams(1), readPatience: readPatience}
				pace, began := &readPace{}, time.Now()
				err := s.stateCall(t.Context(), func() error { return nil }, func() error { return nil }, func(ctx context.Context, send func(func() error) error) error {
					for range 1000 {
						if err := pace.sent(chunkBytes, time.Second); err != nil {
							return err
						}
					}
					began = time.Now()
					for range 1000 {
						time.Sleep(test.every) // the server has much to do: not its fault
						at := time.Now()
						if err := send(func() error { time.Sleep(test.every); return nil }); err != nil {
							return err
						}
						if err := pace.sent(chunkBytes, time.Since(at)); err != nil {
							return err
						}
					}
					return nil
				})
				if !test.tooSlow {
					if err != nil {
						t.Error(err)
					}
					return
				}
				f := asFault(err)
				if f.reason != perdurepb.Reason_REASON_CLIENT_TIMEOUT || !strings.Contains(f.Error(), "less than 1 MiB a minute") {
					t.Errorf("it ends with %v", err)
				}
				if took := time.Since(began); took > 20*time.Minute {
					t.Errorf("it is left after %v", took)
				}
			})
		})
	}
}

// A save ends before the log's disk is full, though its client reads nothing. One
// that begins on a disk that is nearly full goes on while that is not getting worse.
func TestSaveEndsForRoom(t *testing.T) {
	for name, test := range map[string]struct {
		begins, falls uint64 // MiB
		ends          bool
	}{
		"it runs full":            {1000, 255, true},
		"there is room":           {1000, 256, false},
		"it was nearly full":      {100, 60, false},
		"and is fuller":           {100, 49, true},
		"it is full all the time": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				room := watchRoom(func() (uint64, bool) {
					if time.Since(began) > 10*time.Second {
						return test.falls << 20, true
					}
					return test.begins << 20, true
				})
				s := &Server{streams: newStreams(1), readPatience: readPatience}
				stream, leave := context.WithCancel(t.Context()) // gRPC ends it when the call does
				err := s.stateCall(stream, func() error { return nil }, room.check, func(ctx context.Context, send func(func() error) error) error {
					return send(func() error {
						select {
						case <-stream.Done():
						case <-time.After(30 * time.Second):
						}
						return nil
					})
				})
				leave()
				if ends := err != nil; ends != test.ends || ends && asFault(err).reason != perdurepb.Reason_REASON_FILE_FAILED {
					t.Errorf("it ends with %v", err)
				}
			})
		})
	}
}
