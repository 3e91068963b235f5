package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// The errors that a program may want to tell apart, with errors.Is. Those that
// come from a server arrive as an *Error, which has the reason's code.
var (
	// ErrOutcomeUnknown means that the operation may or may not have happened.
	ErrOutcomeUnknown = newSentinel("OUTCOME_UNKNOWN", "the outcome is unknown")
	// ErrWindowFull means that nothing was sent because too much is unconfirmed.
	ErrWindowFull = newSentinel("WINDOW_FULL", "the window is full")
	// ErrClosed means that the object was closed by its owner.
	ErrClosed = newSentinel("CLOSED", "closed")
	// ErrTimeout means that the retry duration, or a limit on waiting, is over.
	ErrTimeout = newSentinel("TIMEOUT", "gave up after the time allowed")
	// ErrUnavailable means that no server could be reached.
	ErrUnavailable = newSentinel("UNAVAILABLE", "no server could be reached")

	// ErrNotFound is ErrNoSuchEndpoint, ErrNoSuchStore, ErrNoSuchDurable,
	// ErrNoSuchCluster, ErrNoSuchLoad or ErrNoSuchFile.
	ErrNotFound = newSentinel("NOT_FOUND", "not found")

	ErrInvalidArgument = newSentinel("INVALID_ARGUMENT", "malformed request")
	ErrNoSuchEndpoint  = newSentinel("NO_SUCH_ENDPOINT", "no such endpoint")
	ErrNoSuchStore     = newSentinel("NO_SUCH_STORE", "no such store")
	ErrNoSuchDurable   = newSentinel("NO_SUCH_DURABLE", "no such durable")
	ErrNoSuchCluster   = newSentinel("NO_SUCH_CLUSTER", "no such cluster")
	ErrInvalidName     = newSentinel("INVALID_NAME", "invalid name")
	ErrInvalidMatcher  = newSentinel("INVALID_MATCHER", "the matcher does not parse")
	ErrMatcherMismatch = newSentinel("MATCHER_MISMATCH", "the durable has another matcher")
	ErrKindMismatch    = newSentinel("KIND_MISMATCH", "the durable is of another kind")
	ErrNoTemplate      = newSentinel("NO_TEMPLATE", "the endpoint has no template of that kind")

	ErrMessageTooLarge  = newSentinel("MESSAGE_TOO_LARGE", "the message is too large")
	ErrBatchTooLarge    = newSentinel("BATCH_TOO_LARGE", "the batch is too large")
	ErrBatchCorrupt     = newSentinel("BATCH_CORRUPT", "the batch is corrupt")
	ErrStoreFull        = newSentinel("STORE_FULL", "the store is full")
	ErrSequenceGap      = newSentinel("SEQUENCE_GAP", "a batch of the session is missing")
	ErrSequenceReused   = newSentinel("SEQUENCE_REUSED", "the session stored another batch under that sequence")
	ErrReceiptForgotten = newSentinel("RECEIPT_FORGOTTEN", "stored before, and its receipt is forgotten")
	ErrAborted          = newSentinel("ABORTED", "an earlier batch was rejected")
	ErrSessionUnknown   = newSentinel("SESSION_UNKNOWN", "the publisher session is unknown")
	ErrEpochChanged     = newSentinel("EPOCH_CHANGED", "the cluster lost data")

	ErrNotOwner          = newSentinel("NOT_OWNER", "another subscriber holds the message")
	ErrForceClosed       = newSentinel("FORCE_CLOSED", "a newer subscriber took the durable over")
	ErrDurableDeleted    = newSentinel("DURABLE_DELETED", "the durable was deleted")
	ErrAlreadySubscribed = newSentinel("ALREADY_SUBSCRIBED", "this client subscribes the durable already")

	ErrNotLeader        = newSentinel("NOT_LEADER", "not the leader")
	ErrNoLeader         = newSentinel("NO_LEADER", "the cluster has no leader")
	ErrMayHaveForgotten = newSentinel("MAY_HAVE_FORGOTTEN", "the replica may have forgotten what it promised")
	ErrOverloaded       = newSentinel("OVERLOADED", "the server is overloaded")
	ErrStopping         = newSentinel("STOPPING", "the server is stopping")
	ErrClientTimeout    = newSentinel("CLIENT_TIMEOUT", "the server heard nothing for too long")
	ErrSuspended        = newSentinel("SUSPENDED", "the cluster is suspended")
	ErrNotSuspended     = newSentinel("NOT_SUSPENDED", "the cluster is not suspended")
	ErrCorrupt          = newSentinel("CORRUPT", "data failed a check")

	ErrStateTruncated = newSentinel("STATE_TRUNCATED", "the state file is truncated")
	ErrStateAltered   = newSentinel("STATE_ALTERED", "the state file is altered")
	ErrStateForeign   = newSentinel("STATE_FOREIGN", "it is no state file")
	ErrStateNewer     = newSentinel("STATE_NEWER", "the state file is of a later version")
	ErrNotEmpty       = newSentinel("NOT_EMPTY", "a store has been used")
	ErrLoadRefused    = newSentinel("LOAD_REFUSED", "the state does not fit")
	ErrLoading        = newSentinel("LOADING", "a state is being loaded")
	ErrNoSuchLoad     = newSentinel("NO_SUCH_LOAD", "no state is being loaded")
	ErrNoSuchFile     = newSentinel("NO_SUCH_FILE", "the server has no such file")
	ErrFileFailed     = newSentinel("FILE_FAILED", "the server could not read or write a file")

	ErrRealmInvalid     = newSentinel("REALM_INVALID", "the realm definition is invalid")
	ErrRevisionConflict = newSentinel("REVISION_CONFLICT", "somebody else changed the realm")
	ErrRealmForming     = newSentinel("REALM_FORMING", "the realm is still forming")
	ErrInternal         = newSentinel("INTERNAL", "internal error of the server")
)

// sentinels finds the sentinel of a code. Filled by newSentinel, then only read.
var sentinels = map[string]*sentinel{}

// sentinel is an error that stands for every *Error of its code.
type sentinel struct{ code, text string }

func newSentinel(code, text string) error {
	s := &sentinel{code: code, text: text}
	sentinels[code] = s
	return s
}

func (s *sentinel) Error() string { return "client: " + s.text }

// Error is what a server answered, or what the client itself refused.
// errors.Is compares it with the sentinel of its reason.
type Error struct {
	// Reason is the stable code: NO_SUCH_ENDPOINT, STORE_FULL and so on.
	Reason string
	// Message says what happened, where, and what to do.
	Message string
	// Retryable says that the same request may succeed later.
	Retryable bool
	// Leader says who may serve the request, if that is known.
	Leader *Leader
	// LastSequence belongs to SEQUENCE_GAP.
	LastSequence uint64
	// Problems belong to REALM_INVALID.
	Problems []Problem

	cause error // of what the client refused itself, or nil
}

// Leader says where a leader takes clients.
type Leader struct {
	Server  string `json:"server"`
	Address string `json:"address"`
}

// Problem is one thing wrong with, or to know about, a realm definition.
type Problem struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Warning bool   `json:"warning"`
}

// Error returns the message, or what the reason stands for.
func (e *Error) Error() string {
	text := e.Message
	if s := sentinels[e.Reason]; text == "" && s != nil {
		text = s.text
	}
	if text == "" {
		return "client: " + e.Reason
	}
	return fmt.Sprintf("client: %s: %s", e.Reason, text)
}

// Is reports whether target is the sentinel of the reason, or of its group.
func (e *Error) Is(target error) bool {
	if target == ErrNotFound {
		return strings.HasPrefix(e.Reason, "NO_SUCH_")
	}
	s, ok := target.(*sentinel)
	return ok && s.code == e.Reason
}

// Unwrap returns the error of another package that this one reports, if any.
func (e *Error) Unwrap() error { return e.cause }

// placed is an error and what was done. What both would begin with is said once.
type placed struct {
	where string
	err   error
}

// during says what was done when err happened.
func during(err error, format string, args ...any) error {
	return &placed{fmt.Sprintf(format, args...), err}
}

func (e *placed) Error() string {
	return "client: " + e.where + ": " + strings.TrimPrefix(e.err.Error(), "client: ")
}

func (e *placed) Unwrap() error { return e.err }

// transient are the reasons that another server, or a later try, may not give.
var transient = map[perdurepb.Reason]bool{
	perdurepb.Reason_REASON_STORE_FULL:         true,
	perdurepb.Reason_REASON_NOT_LEADER:         true,
	perdurepb.Reason_REASON_NO_LEADER:          true,
	perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN: true,
	perdurepb.Reason_REASON_OVERLOADED:         true,
	perdurepb.Reason_REASON_STOPPING:           true,
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN:    true,
	perdurepb.Reason_REASON_CLIENT_TIMEOUT:     true,
	perdurepb.Reason_REASON_CORRUPT:            true,
	perdurepb.Reason_REASON_SUSPENDED:          true,
	perdurepb.Reason_REASON_REALM_FORMING:      true,
}

// errorOf translates an error frame; nil for nil.
func errorOf(pb *perdurepb.Error) *Error {
	if pb == nil {
		return nil
	}
	e := &Error{
		Reason:       strings.TrimPrefix(pb.Reason.String(), "REASON_"),
		Message:      pb.Message,
		Retryable:    pb.Retryable || transient[pb.Reason],
		LastSequence: pb.LastSequence,
		Problems:     problemsOf(pb.Problems),
	}
	if pb.Leader.GetAddress() != "" {
		e.Leader = &Leader{Server: pb.Leader.Server, Address: pb.Leader.Address}
	}
	return e
}

func problemsOf(pbs []*perdurepb.Problem) []Problem {
	var problems []Problem
	for _, p := range pbs {
		problems = append(problems, Problem{
			Line: int(p.Line), Column: int(p.Column), Path: p.Path, Message: p.Message, Warning: p.Warning,
		})
	}
	return problems
}

// fromStatus translates what a call or stream at a server returned. Errors of
// the context of the call pass through.
func fromStatus(address string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		s = status.New(codes.Unavailable, err.Error())
	}
	for _, d := range s.Details() {
		if pb, ok := d.(*perdurepb.Error); ok {
			return errorOf(pb)
		}
	}
	e := &Error{Message: fmt.Sprintf("server %s: %s", address, s.Message())}
	switch s.Code() {
	case codes.Canceled:
		return fmt.Errorf("client: server %s: %w", address, context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("client: server %s: %w", address, context.DeadlineExceeded)
	case codes.InvalidArgument:
		e.Reason = "INVALID_ARGUMENT"
	case codes.Unimplemented:
		e.Reason = "INTERNAL"
	default:
		// Without a reason it is the connection that failed, not the request.
		e.Reason, e.Retryable = "UNAVAILABLE", true
	}
	return e
}

// isRetryable reports whether the same request may succeed elsewhere or later.
func isRetryable(err error) bool {
	var own *ownSide
	if errors.As(err, &own) {
		return false
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Retryable
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// ownSide is an error of a file that this side reads or writes: no other server knows
// help.
type ownSide struct{ err error }

func (e *ownSide) Error() string { return e.err.Error() }
func (e *ownSide) Unwrap() error { return e.err }

// mayResume reports whether a stream that ended with err is worth opening again.
func mayResume(err error) bool { return isRetryable(err) || errors.Is(err, ErrInternal) }

// leaderHint returns the address that an error names as the leader's, or "".
func leaderHint(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Leader != nil {
		return e.Leader.Address
	}
	return ""
}

// refusal is an *Error of the client's own.
func refusal(sentinelErr, cause error, format string, args ...any) *Error {
	return &Error{Reason: sentinelErr.(*sentinel).code, Message: fmt.Sprintf(format, args...), cause: cause}
}

// encodingError says why a message cannot be sent, in the terms of a server.
func encodingError(err error) error {
	switch {
	case errors.Is(err, message.ErrTooLarge), errors.Is(err, message.ErrFull):
		return refusal(ErrMessageTooLarge, err, "%v", err)
	case errors.Is(err, message.ErrName):
		return refusal(ErrInvalidName, err, "%v", err)
	}
	return refusal(ErrInvalidArgument, err, "%v", err)
}

// unknown says that an operation may have happened although cause came up.
func unknown(cause error) error {
	if errors.Is(cause, ErrOutcomeUnknown) {
		return cause
	}
	return errors.Join(ErrOutcomeUnknown, cause)
}
