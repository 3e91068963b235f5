package peer

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// PeerStatus describes a known server.
type PeerStatus struct {
	Server      uint64
	Name        string
	Address     string
	Up          bool // control connections stand in both directions
	Outgoing    bool // this server's control connection to it stands
	Incoming    bool // its control connection to this server stands
	Appends     bool // this server's append connection to it stands
	Incarnation uint64
	RoundTrip   time.Duration // of the last clock frame, 0 if none yet
	Sent        uint64        // messages written
	Unsent      uint64        // messages that Send refused
	Received    uint64        // messages delivered
	// LastError is why a connection with it last ended or was refused, and
	// LastErrorAt when. It stays after the peer came back.
	LastError   error
	LastErrorAt time.Time
}

// Peers describes all known servers in the order of their ids.
func (t *Transport) Peers() []PeerStatus {
	known := *t.known.Load()
	all := make([]PeerStatus, 0, len(known))
	for _, p := range known {
		all = append(all, p.status())
	}
	slices.SortFunc(all, func(a, b PeerStatus) int { return cmp.Compare(a.Server, b.Server) })
	return all
}

func (p *peer) status() PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStatus{
		Server: p.id, Name: p.Name, Address: p.Address, Up: p.up.Load(),
		Outgoing: p.out != nil, Incoming: p.in != nil, Appends: p.outAppend != nil,
		RoundTrip: time.Duration(p.rtt.Load()),
		Sent:      p.sent.Load(), Unsent: p.unsent.Load(), Received: p.received.Load(),
		LastError: p.lastErr, LastErrorAt: p.lastErrAt,
	}
	for _, l := range []*line{p.in, p.out} {
		if l != nil {
			s.Incarnation = l.remote.incarnation
		}
	}
	return s
}

// Stats counts since Open, over all peers and strangers.
type Stats struct {
	Corrupt   uint64 // connections closed for a corrupt or oversized frame
	Truncated uint64 // connections that ended within a frame, as when a process dies
	Refused   uint64 // connections refused by this server or by another
	Rejected  uint64 // messages received and dropped: forged, or of a type that may not travel
	Unsent    uint64 // messages that Send refused
}

// Stats returns the counts.
func (t *Transport) Stats() Stats {
	return Stats{
		Corrupt:   t.counts.corrupt.Load(),
		Truncated: t.counts.truncated.Load(),
		Refused:   t.counts.refused.Load(),
		Rejected:  t.counts.rejected.Load(),
		Unsent:    t.counts.unsent.Load(),
	}
}

type counts struct{ corrupt, truncated, refused, rejected, unsent atomic.Uint64 }

// countError counts a connection that ended with err.
func (c *counts) countError(err error) {
	switch cause(err) {
	case ErrCorrupt, ErrTooLarge:
		c.corrupt.Add(1)
	case ErrVersion, ErrRealm, ErrUnknownPeer, ErrIdentity, ErrDuplicate, ErrBusy:
		c.refused.Add(1)
	case ErrTruncated:
		c.truncated.Add(1)
	}
}
