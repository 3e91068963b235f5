package service

import (
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
)

// Publisher is the stream of one publisher.
type Publisher struct {
	ID      uint64 // unique in this process
	Session uint64 // kept alive while the stream is there; 0 is none
	// Ended says that the service does not lead any more. It runs on the group's
	// loop, once, and must not block.
	Ended func(perdurepb.Reason)
}

// Keep adds a publisher's stream. It is [cluster.ErrNotLeader] where the service
// does not lead.
func (s *Service) Keep(p *Publisher) error {
	if !s.led {
		return cluster.ErrNotLeader
	}
	s.publishers[p.ID] = p
	return nil
}

// Drop removes a publisher's stream. One that is not there is ignored.
func (s *Service) Drop(p *Publisher) {
	if s.publishers[p.ID] == p {
		delete(s.publishers, p.ID)
	}
}

// sessions returns the sessions whose publishers are connected, ascending.
func (s *Service) sessions() []uint64 {
	var ids []uint64
	for _, p := range s.publishers {
		if p.Session != 0 {
			ids = append(ids, p.Session)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
