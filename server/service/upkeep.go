package service

import (
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
)

const (
	// A checksum goes into the log after so many entries, or so long after the
	// last one if there was traffic: replicas that differ are found while it is
	// known where.
	checksumEntries = 10_000
	checksumEvery   = 10e9 // nanoseconds
	// tickEvery is how often idle sessions are kept or expired. It is a small
	// part of the time after which a session expires.
	tickEvery = 60e9 // nanoseconds
)

// upkeep is what the leader does for the state by itself. Instants are in
// Now.Mono.
type upkeep struct {
	entries  int // with commands other than these, since the last checksum
	checksum int64
	tick     int64
}

func (u *upkeep) lead(now cluster.Now) {
	*u = upkeep{checksum: now.Mono + checksumEvery, tick: now.Mono + tickEvery}
}

func (u *upkeep) deadline() int64 {
	if u.entries > 0 {
		return earliest(u.tick, u.checksum)
	}
	return u.tick
}

// upkeeping appends what is due. Both commands are in issued without a durable.
func (s *Service) upkeeping(dst [][]byte, now cluster.Now) [][]byte {
	u := &s.upkeep
	if u.entries >= checksumEntries || u.entries > 0 && now.Mono >= u.checksum {
		index, hash := s.Machine.Checksum()
		dst = append(dst, store.AppendChecksum(nil, index, hash))
		s.issued.push(issued{upkeep: true})
		u.entries, u.checksum = 0, now.Mono+checksumEvery
	}
	if now.Mono >= u.tick {
		u.tick = now.Mono + tickEvery
		if s.Machine.Sessions() > 0 {
			dst = append(dst, store.AppendTick(nil, s.sessions()))
			s.issued.push(issued{upkeep: true})
		}
	}
	return dst
}
