package store

import (
	"fmt"

	"github.com/perdure/perdure/message"
)

// Code says what became of a command. Codes are answers, equal on all replicas;
// none of them is a fault of the replica.
type Code uint8

const (
	// OK means done.
	OK Code = iota
	// Invalid means that the command does not decode, or makes no sense. It
	// changed nothing and was counted.
	Invalid
	// NoSuchStore means that the store does not exist, or not any more.
	NoSuchStore
	// NoSuchDurable means the same of a durable.
	NoSuchDurable
	// Corrupt means that a batch does not parse. It closed the attempt.
	Corrupt
	// StoreFull means that a limit of the store is reached. It closed the
	// attempt.
	StoreFull
	// SequenceGap means that sequences are missing between Last and this one.
	// Nothing changed: go on at Last+1.
	SequenceGap
	// SequenceReused means that the sequence was used for another batch.
	SequenceReused
	// ReceiptForgotten means a duplicate of a batch that was accepted so long
	// ago that its ids are not known any more.
	ReceiptForgotten
	// Aborted means that an earlier batch of the same attempt was rejected:
	// go on under the next attempt, at Last+1.
	Aborted
	// SessionUnknown means that the session expired, was closed or belongs to
	// another store.
	SessionUnknown
	// EpochChanged means that the store has opened a new epoch since the leader
	// looked.
	EpochChanged
	// KindMismatch means that the durable is of another kind.
	KindMismatch
	// MatcherMismatch means that the durable has another matcher.
	MatcherMismatch
	// InvalidMatcher means that the matcher does not parse.
	InvalidMatcher
	// InvalidName means that the name breaks a rule.
	InvalidName
	// DurableLimit means that the store may not have another dynamic durable.
	DurableLimit
	// StaticDurable means that the durable belongs to the realm definition and
	// cannot be deleted otherwise.
	StaticDurable
	// Detached means that another attachment has replaced this one.
	Detached
	// Stale means that a definition of this revision, or a newer one, was
	// deployed before.
	Stale
	// NameTaken means that a definition was deployed, except for durables whose
	// names belong to dynamic ones; Detail names them.
	NameTaken
	// Diverged means that this replica's hash differed from the leader's.
	Diverged
	// Suspended means that the cluster is suspended. Of a Publish it closed the
	// attempt; nothing else changed.
	Suspended
	// NotSuspended means that the cluster must be suspended for this.
	NotSuspended
	// Loading means that a saved state is being loaded, another one if this is
	// about a load.
	Loading
	// NoSuchLoad means that no load of this name is under way.
	NoSuchLoad
	// NotEmpty means that a store holds something, or did once, and is not to be
	// replaced.
	NotEmpty
	// LoadRefused means that what was loaded does not fit itself or the
	// definition. It was forgotten, and nothing changed.
	LoadRefused
)

var codeNames = [...]string{
	"ok", "invalid", "no such store", "no such durable", "corrupt", "store full", "sequence gap",
	"sequence reused", "receipt forgotten", "aborted", "session unknown", "epoch changed",
	"kind mismatch", "matcher mismatch", "invalid matcher", "invalid name", "durable limit",
	"static durable", "detached", "stale", "name taken", "diverged", "suspended",
	"not suspended", "loading", "no such load", "not empty", "load refused",
}

// String returns the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Result is the answer to one command. Which fields are set depends on the
// command; the others are zero.
type Result struct {
	Code       Code
	Interested bool // Publish: some durable keeps some of the batch
	Duplicate  bool // Publish: was accepted before; First, Count, Interested as then
	Created    bool // CreateDurable: it did not exist

	Count   uint32     // Publish: messages, their ids are First and on
	First   message.ID // Publish: id of the first message
	Attempt uint32     // Publish, OpenSession: current attempt of the session
	Session uint64     // Publish, OpenSession
	// Last is the last accepted sequence of the session for Publish, the hash for
	// Checksum, and for the commands of a load the part that is wanted next.
	Last    uint64
	Durable uint64 // of commands about one
	Attach  uint64 // Attach: the number of the attachment
	Detail  string // what was wrong; empty when OK
}
