package durable

import (
	"fmt"

	"github.com/perdure/perdure/message"
)

// Kind is how a durable shares its messages among subscribers. The numbers are
// part of the state format.
type Kind uint8

const (
	// KindStandard is one subscriber at a time; the newest wins.
	KindStandard Kind = 1
	// KindShared gives each message to one of many subscribers.
	KindShared Kind = 2
)

// Valid reports whether k is a known kind.
func (k Kind) Valid() bool { return k == KindStandard || k == KindShared }

// String returns the word that realm definitions use.
func (k Kind) String() string {
	switch k {
	case KindStandard:
		return "standard"
	case KindShared:
		return "shared"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// DefaultPrefetch is how many unacknowledged messages a subscriber of a durable
// of kind k may hold when nobody says otherwise.
func (k Kind) DefaultPrefetch() uint32 {
	if k == KindShared {
		return 256
	}
	return 1024
}

// Options are what a durable is created with.
type Options struct {
	Kind Kind
	// Matcher is the canonical text of the matcher; "" wants every message.
	Matcher string
	// Prefetch is the most messages that one subscriber holds unacknowledged;
	// 0 is [Kind.DefaultPrefetch].
	Prefetch uint32
}

// Canonical checks o and returns it with every default filled in and the
// matcher in its canonical form, and the parsed matcher, nil for every message.
func (o Options) Canonical() (Options, *message.Matcher, error) {
	if !o.Kind.Valid() {
		return o, nil, fmt.Errorf("durable: %v is not known; want standard or shared", o.Kind)
	}
	if o.Prefetch == 0 {
		o.Prefetch = o.Kind.DefaultPrefetch()
	}
	if o.Matcher == "" {
		return o, nil, nil
	}
	m, err := message.ParseMatcher(o.Matcher)
	if err != nil {
		return o, nil, fmt.Errorf("durable: matcher: %w", err)
	}
	o.Matcher = m.String()
	if o.Matcher == "{}" {
		o.Matcher, m = "", nil
	}
	return o, m, nil
}
