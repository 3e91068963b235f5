package store

import (
	"fmt"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// maxGrace bounds the grace of a Suspend, in milliseconds: an hour.
const maxGrace = 3600_000

// Suspended reports whether the cluster is suspended. See the package comment.
func (m *Machine) Suspended() bool { return m.suspended }

// Grace returns how long the leader is to wait for acknowledgements, in
// nanoseconds, as the last Suspend said that was applied since the start; 0 if
// there was none.
func (m *Machine) Grace() int64 { return m.grace }

// suspend applies a Suspend. The grace is for the leader and no part of the state.
func (m *Machine) suspend(c *statepb.Suspend) Result {
	if c.Unused {
		for _, s := range m.stores {
			if !s.untouched() {
				return Result{Code: NotEmpty, Detail: fmt.Sprintf("store %q has been used", s.spec.name)}
			}
		}
	}
	m.suspended, m.grace = true, int64(min(c.GraceMs, maxGrace))*1e6
	return Result{}
}

// resume applies a Resume.
func (m *Machine) resume() Result {
	if g := m.loads.staged; g != nil {
		return Result{Code: Loading, Detail: fmt.Sprintf("load %016x is not complete: go on with it, or abort it", g.load)}
	}
	if l := &m.loads; m.suspended && l.done != 0 && !l.resumed {
		l.resumed = true
		m.touchLoads()
	}
	m.suspended = false
	m.useLate()
	return Result{}
}

// isSuspended answers a command that a suspended cluster refuses; why says what
// does not happen.
func isSuspended(why string) Result {
	return Result{Code: Suspended, Detail: why + " while the cluster is suspended; perdure cluster resume ends that"}
}
