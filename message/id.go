package message

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	counterBits = 48

	// MaxCounter is the highest counter an ID can hold.
	MaxCounter = 1<<counterBits - 1
)

// ID is a store message id: the epoch in the upper 16 bits, a counter in the
// lower 48. Within one store and epoch ids rise by one, and no id ever names
// two messages. Ids of a later epoch are higher. Zero names no message.
type ID uint64

// MakeID joins an epoch and a counter. It panics if the counter does not fit
// into 48 bits: a wrapped counter would name two messages.
func MakeID(epoch uint16, counter uint64) ID {
	if counter > MaxCounter {
		panic(fmt.Sprintf("message: counter %d does not fit into %d bits", counter, counterBits))
	}
	return ID(uint64(epoch)<<counterBits | counter)
}

// Epoch returns the upper 16 bits.
func (id ID) Epoch() uint16 { return uint16(id >> counterBits) }

// Counter returns the lower 48 bits.
func (id ID) Counter() uint64 { return uint64(id) & MaxCounter }

// String returns the counter in decimal when the epoch is 0, and
// "epoch:counter" otherwise. ParseID reads it back.
func (id ID) String() string {
	if id.Epoch() == 0 {
		return strconv.FormatUint(id.Counter(), 10)
	}
	return strconv.Itoa(int(id.Epoch())) + ":" + strconv.FormatUint(id.Counter(), 10)
}

// ParseID reads what String writes, and nothing else: no signs, spaces,
// leading zeros or an epoch of 0. So each id has one spelling. Errors wrap
// ErrID.
func ParseID(s string) (ID, error) {
	var epoch uint64
	counter := s
	if before, after, found := strings.Cut(s, ":"); found {
		var ok bool
		if epoch, ok = parseDecimal(before, 1<<16-1); !ok || epoch == 0 {
			return 0, badID(s)
		}
		counter = after
	}
	n, ok := parseDecimal(counter, MaxCounter)
	if !ok {
		return 0, badID(s)
	}
	return MakeID(uint16(epoch), n), nil
}

func badID(s string) error {
	const shown = 40 // an id has at most 21 bytes
	if len(s) > shown {
		s = s[:shown]
	}
	return fmt.Errorf("%w: %q is neither a counter nor epoch:counter, such as 17 or 2:17", ErrID, s)
}

// parseDecimal reads a number without sign or leading zeros, up to limit.
func parseDecimal(s string, limit uint64) (uint64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}
