package service

import (
	"errors"

	"github.com/perdure/perdure/cluster"
)

// ErrSuspended means that the cluster is suspended: nobody attaches.
var ErrSuspended = errors.New("service: the cluster is suspended")

// ErrResumed means that the cluster was resumed before everything that had been
// delivered was settled or taken back.
var ErrResumed = errors.New("service: the cluster was resumed meanwhile")

// suspension is what the leader does while the cluster is suspended. Nothing is
// handed out. What subscribers hold they may settle for a grace; then it is taken
// back, as if it had not been delivered. Instants are in Now.Mono.
type suspension struct {
	since    int64  // when it was seen; 0 is not suspended
	until    int64  // when what is held is taken back; 0 that was done
	before   int64  // nanoseconds that the ones before took, under this leader
	recalled uint64 // messages that were taken back
	waiters  []func(recalled uint64, err error)
}

// clock is the time of dispatch: it stands still while the cluster is suspended,
// so that no delay runs out.
func (s *Service) clock(now cluster.Now) int64 {
	if s.suspension.since != 0 {
		return s.suspension.since - s.suspension.before
	}
	return now.Mono - s.suspension.before
}

// suspended follows what was applied, and reports whether nothing is to be handed
// out.
func (s *Service) suspended(now cluster.Now) bool {
	x, on := &s.suspension, s.Machine.Suspended()
	switch {
	case !on && x.since == 0:
		return false
	case on && x.since == 0:
		x.since, x.recalled = max(1, now.Mono), 0
		x.until = x.since + s.Machine.Grace()
	case !on:
		x.before += now.Mono - x.since
		x.since, x.until = 0, 0
		s.answerQuiet(ErrResumed)
		return false
	}
	if x.until != 0 && now.Mono >= x.until {
		x.until = 0
		for _, id := range sorted(s.durables) {
			t := s.durables[id]
			x.recalled += t.d.Recall()
			s.heat(t) // for when it is resumed
		}
	}
	if len(x.waiters) > 0 && s.quiet() {
		s.answerQuiet(nil)
	}
	return true
}

// quiet reports whether nothing is held by a subscriber, and everything that they
// said is applied.
func (s *Service) quiet() bool {
	if len(s.waiting) > 0 || len(s.issued.all()) > 0 {
		return false
	}
	for _, t := range s.durables {
		if total := t.d.Held(); total.Held+total.Settling > 0 {
			return false
		}
	}
	return true
}

// AwaitQuiet calls done when everything that was delivered before the cluster was
// suspended is settled or taken back, and says how many messages were taken back.
// The error is [ErrResumed] or [cluster.ErrNotLeader] if that came first. done runs
// on the loop and must not block.
func (s *Service) AwaitQuiet(done func(recalled uint64, err error)) {
	switch {
	case !s.led:
		done(0, cluster.ErrNotLeader)
	case !s.Machine.Suspended():
		done(0, ErrResumed)
	default:
		s.suspension.waiters = append(s.suspension.waiters, done)
	}
}

func (s *Service) answerQuiet(err error) {
	waiters := s.suspension.waiters
	s.suspension.waiters = nil
	for _, done := range waiters {
		done(s.suspension.recalled, err)
	}
}

// unleadSuspended forgets what only a leader does.
func (s *Service) unleadSuspended() {
	s.answerQuiet(cluster.ErrNotLeader)
	s.suspension = suspension{}
}

// Loaded implements [cluster.Machine].
func (s *Service) Loaded(applied uint64) error {
	err := s.Machine.Loaded(applied)
	s.tell()
	return err
}

// tell tells OnSuspend what is new.
func (s *Service) tell() {
	if on := s.Machine.Suspended(); on != s.told {
		s.told = on
		if s.OnSuspend != nil {
			s.OnSuspend(on)
		}
	}
}
