package message

import (
	"errors"
	"fmt"
)

// What a caller may want to tell apart. Every error of this package wraps
// one of these.
var (
	// ErrCorrupt means that bytes are not what a Builder wrote: a length, a
	// checksum or a structure is wrong. Do not store or deliver them.
	ErrCorrupt = errors.New("message: corrupt")
	// ErrVersion means a batch of a format, or with flags, that this program
	// does not know. A newer program wrote it: upgrade this one.
	ErrVersion = errors.New("message: unknown format version")
	// ErrTooLarge means that a message or batch is over a limit and never
	// fits. Make it smaller, or raise max_message_size.
	ErrTooLarge = errors.New("message: too large")
	// ErrFull means that a message does not fit into this batch but may fit
	// into an empty one. The builder is unchanged: send its batch, then add
	// again.
	ErrFull = errors.New("message: batch is full")
	// ErrName means a name that is empty, too long or reserved.
	ErrName = errors.New("message: bad name")
	// ErrUTF8 means text that is not UTF-8. Use bytes for other data.
	ErrUTF8 = errors.New("message: not UTF-8")
	// ErrDuplicate means that a name is used twice in one message.
	ErrDuplicate = errors.New("message: duplicate name")
	// ErrValue means a value that the format cannot hold.
	ErrValue = errors.New("message: bad value")
	// ErrMatcher means matcher text that does not parse; it comes as a
	// *SyntaxError, which has the position.
	ErrMatcher = errors.New("message: bad matcher")
	// ErrJSON means JSON text that does not become a message; it comes as a
	// *SyntaxError, which has the position.
	ErrJSON = errors.New("message: bad JSON")
	// ErrRange means that a position in a batch does not exist, or that a
	// selection is empty or does not ascend.
	ErrRange = errors.New("message: no such position in the batch")
	// ErrID means text that is no message id.
	ErrID = errors.New("message: bad id")
)

// SyntaxError says where matcher or JSON text is wrong.
type SyntaxError struct {
	Offset  int    // in bytes from the start, from 0 on
	Member  string // path of the member it happened in, such as a.b[2]; may be empty
	Problem string // what is wrong and what to do

	kind  error // ErrMatcher or ErrJSON
	cause error // ErrName, ErrUTF8 and the like, or nil
}

// Error describes the problem with its position, counted from 1.
func (e *SyntaxError) Error() string {
	if e.Member == "" {
		return fmt.Sprintf("%v: at byte %d: %s", e.kind, e.Offset+1, e.Problem)
	}
	return fmt.Sprintf("%v: at byte %d, in %q: %s", e.kind, e.Offset+1, e.Member, e.Problem)
}

// Unwrap returns ErrMatcher or ErrJSON and, where there is one, the more
// precise cause.
func (e *SyntaxError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// corruptf returns an ErrCorrupt that says what is wrong.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
