package service

import (
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// source is a durable's record as the dispatcher reads it.
type source struct {
	machine *store.Machine
	durable store.Durable
}

func newSource(m *store.Machine, id uint64) (dispatch.Source, dispatch.Kind, bool) {
	d, ok := m.Durable(id)
	if !ok {
		return nil, 0, false
	}
	kind := dispatch.Standard
	if d.Kind() == durable.KindShared {
		kind = dispatch.Shared
	}
	return source{m, d}, kind, true
}

func (s source) NextRun(from message.ID) (message.ID, uint64, bool) {
	return s.durable.Pending().NextRun(from)
}

func (s source) Batch(id message.ID) (dispatch.Batch, bool) {
	b, ok := s.machine.Batch(s.durable.Store(), id)
	return dispatch.Batch(b), ok
}

// Counted answers for the whole durable: runs with counts are rare, and a look
// at each message costs only where it says yes.
func (s source) Counted(message.ID, message.ID) bool { return s.durable.Counted() }

func (s source) Watermark() message.ID { return s.durable.Watermark() }
func (s source) Limit() message.ID     { return s.durable.Limit() }

// counts returns what the record says of the deliveries of a message.
func (s *Service) counts(id uint64, m message.ID) (ended, possible uint32) {
	d, ok := s.Machine.Durable(id)
	if !ok {
		return 0, 0
	}
	return d.Counts(m)
}
