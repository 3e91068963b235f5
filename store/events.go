package store

import "slices"

// events is what the leader's dispatcher wants to know. It is not state.
type events struct {
	touched  []*durableState
	attached []*durableState
	removed  []uint64
	replaced bool
	out      []uint64
}

func (e *events) touch(d *durableState) {
	if !d.touched {
		d.touched = true
		e.touched = append(e.touched, d)
	}
}

func (e *events) attach(d *durableState) {
	if !d.attached {
		d.attached = true
		e.attached = append(e.attached, d)
	}
}

// forget drops the events of a durable that is deleted.
func (e *events) forget(d *durableState) {
	same := func(o *durableState) bool { return o == d }
	if d.touched {
		e.touched = slices.DeleteFunc(e.touched, same)
	}
	if d.attached {
		e.attached = slices.DeleteFunc(e.attached, same)
	}
}

// Touched returns the durables that gained pending messages since the last
// call, in the order in which they first did. The slice is valid until the next
// call of any method that returns events. Call these after each Apply, leading
// or not, so that they do not gather.
func (m *Machine) Touched() []uint64 {
	out := m.events.out[:0]
	for _, d := range m.events.touched {
		d.touched = false
		out = append(out, d.id)
	}
	m.events.touched, m.events.out = m.events.touched[:0], out
	return out
}

// Attached returns the standard durables whose attachment changed since the
// last call, as Touched does.
func (m *Machine) Attached() []uint64 {
	out := m.events.out[:0]
	for _, d := range m.events.attached {
		d.attached = false
		out = append(out, d.id)
	}
	m.events.attached, m.events.out = m.events.attached[:0], out
	return out
}

// Removed returns the durables deleted since the last call, as Touched does.
func (m *Machine) Removed() []uint64 {
	out := append(m.events.out[:0], m.events.removed...)
	m.events.removed, m.events.out = m.events.removed[:0], out
	return out
}

// Replaced reports whether, since the last call, a load has begun, or was committed
// and took the place of stores: whoever dispatches begins anew. When it begins, so
// that no acknowledgement of what was delivered before comes after the commit.
func (m *Machine) Replaced() bool {
	replaced := m.events.replaced
	m.events.replaced = false
	return replaced
}
