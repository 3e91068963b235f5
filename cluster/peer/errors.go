package peer

import (
	"errors"
	"fmt"

	peerpb "github.com/perdure/perdure/api/peer/v1"
)

// Errors that end or refuse a connection. They come wrapped with what happened.
var (
	ErrClosed      = errors.New("transport is closed")
	ErrCorrupt     = errors.New("corrupt frame")
	ErrTruncated   = errors.New("stream ended within a frame")
	ErrTooLarge    = errors.New("frame or message too large")
	ErrVersion     = errors.New("no protocol version in common")
	ErrRealm       = errors.New("another realm")
	ErrUnknownPeer = errors.New("unknown server")
	ErrIdentity    = errors.New("not the expected server")
	ErrDuplicate   = errors.New("another process with the same server id is alive")
	ErrBusy        = errors.New("too many at once")
	ErrSilent      = errors.New("peer is silent")
	ErrStalled     = errors.New("transfer stalled")
	ErrIncomplete  = errors.New("snapshot stream is incomplete")
	ErrUnreachable = errors.New("cannot connect")
	ErrNoServerID  = errors.New("this server has no id yet")
)

// RemoteError is an error that the other server answered to a call or a
// snapshot. Only its text crossed the wire.
type RemoteError struct {
	Server string // name of the server that answered
	Text   string
}

func (e *RemoteError) Error() string { return e.Server + " answered: " + e.Text }

// causes pairs each refusal on the wire with its error.
var causes = map[peerpb.Refusal]error{
	peerpb.Refusal_REFUSAL_VERSION:   ErrVersion,
	peerpb.Refusal_REFUSAL_REALM:     ErrRealm,
	peerpb.Refusal_REFUSAL_UNKNOWN:   ErrUnknownPeer,
	peerpb.Refusal_REFUSAL_IDENTITY:  ErrIdentity,
	peerpb.Refusal_REFUSAL_DUPLICATE: ErrDuplicate,
	peerpb.Refusal_REFUSAL_BUSY:      ErrBusy,
	peerpb.Refusal_REFUSAL_KIND:      ErrVersion,
}

// refusedError translates a refusal that the other side sent.
func refusedError(w *peerpb.Welcome) error {
	cause, ok := causes[w.GetRefusal()]
	if !ok {
		cause = ErrCorrupt
	}
	return fmt.Errorf("refused by server %q: %w: %s", w.GetName(), cause, w.GetReason())
}

// refusal is an error that the accepting side sends before it closes.
type refusal struct {
	code   peerpb.Refusal
	reason string
}

func (r *refusal) Error() string { return causes[r.code].Error() + ": " + r.reason }
func (r *refusal) Unwrap() error { return causes[r.code] }

func refuse(code peerpb.Refusal, format string, args ...any) error {
	return &refusal{code: code, reason: fmt.Sprintf(format, args...)}
}

// cause reduces an error to what is logged once: the sentinel it wraps.
func cause(err error) error {
	for _, c := range []error{
		ErrCorrupt, ErrTruncated, ErrTooLarge, ErrVersion, ErrRealm, ErrUnknownPeer, ErrIdentity, ErrDuplicate,
		ErrBusy, ErrSilent, ErrStalled, ErrUnreachable, ErrNoServerID, ErrIncomplete,
	} {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}
