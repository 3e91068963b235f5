package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/message"
)

// fault is an error on its way to a client: what happened, where, what to do.
// This file is the only one that knows status codes.
type fault struct {
	reason   perdurepb.Reason
	text     string
	leader   *perdurepb.Leader
	last     uint64
	problems []*perdurepb.Problem
}

func faultf(reason perdurepb.Reason, format string, args ...any) *fault {
	return &fault{reason: reason, text: fmt.Sprintf(format, args...)}
}

func (f *fault) Error() string { return f.text }

// codesOf gives each reason the status code that foreign clients branch on.
var codesOf = map[perdurepb.Reason]codes.Code{
	perdurepb.Reason_REASON_INVALID_ARGUMENT:   codes.InvalidArgument,
	perdurepb.Reason_REASON_NO_SUCH_ENDPOINT:   codes.NotFound,
	perdurepb.Reason_REASON_NO_SUCH_STORE:      codes.NotFound,
	perdurepb.Reason_REASON_NO_SUCH_DURABLE:    codes.NotFound,
	perdurepb.Reason_REASON_INVALID_NAME:       codes.InvalidArgument,
	perdurepb.Reason_REASON_INVALID_MATCHER:    codes.InvalidArgument,
	perdurepb.Reason_REASON_MATCHER_MISMATCH:   codes.FailedPrecondition,
	perdurepb.Reason_REASON_KIND_MISMATCH:      codes.FailedPrecondition,
	perdurepb.Reason_REASON_NO_TEMPLATE:        codes.FailedPrecondition,
	perdurepb.Reason_REASON_MESSAGE_TOO_LARGE:  codes.InvalidArgument,
	perdurepb.Reason_REASON_BATCH_TOO_LARGE:    codes.InvalidArgument,
	perdurepb.Reason_REASON_BATCH_CORRUPT:      codes.InvalidArgument,
	perdurepb.Reason_REASON_STORE_FULL:         codes.ResourceExhausted,
	perdurepb.Reason_REASON_SEQUENCE_GAP:       codes.FailedPrecondition,
	perdurepb.Reason_REASON_SEQUENCE_REUSED:    codes.FailedPrecondition,
	perdurepb.Reason_REASON_RECEIPT_FORGOTTEN:  codes.OutOfRange,
	perdurepb.Reason_REASON_ABORTED:            codes.Aborted,
	perdurepb.Reason_REASON_SESSION_UNKNOWN:    codes.FailedPrecondition,
	perdurepb.Reason_REASON_EPOCH_CHANGED:      codes.DataLoss,
	perdurepb.Reason_REASON_NOT_OWNER:          codes.FailedPrecondition,
	perdurepb.Reason_REASON_FORCE_CLOSED:       codes.Aborted,
	perdurepb.Reason_REASON_DURABLE_DELETED:    codes.NotFound,
	perdurepb.Reason_REASON_ALREADY_SUBSCRIBED: codes.AlreadyExists,
	perdurepb.Reason_REASON_NOT_LEADER:         codes.Unavailable,
	perdurepb.Reason_REASON_NO_LEADER:          codes.Unavailable,
	perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN: codes.Unavailable,
	perdurepb.Reason_REASON_OVERLOADED:         codes.ResourceExhausted,
	perdurepb.Reason_REASON_STOPPING:           codes.Unavailable,
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN:    codes.Unknown,
	perdurepb.Reason_REASON_CLIENT_TIMEOUT:     codes.DeadlineExceeded,
	perdurepb.Reason_REASON_CORRUPT:            codes.DataLoss,
	perdurepb.Reason_REASON_REALM_INVALID:      codes.InvalidArgument,
	perdurepb.Reason_REASON_REVISION_CONFLICT:  codes.Aborted,
	perdurepb.Reason_REASON_REALM_FORMING:      codes.Unavailable,
	perdurepb.Reason_REASON_INTERNAL:           codes.Internal,
}

// retryable are the reasons that pass by themselves.
var retryable = map[perdurepb.Reason]bool{
	perdurepb.Reason_REASON_STORE_FULL:         true,
	perdurepb.Reason_REASON_SEQUENCE_GAP:       true,
	perdurepb.Reason_REASON_ABORTED:            true,
	perdurepb.Reason_REASON_NOT_LEADER:         true,
	perdurepb.Reason_REASON_NO_LEADER:          true,
	perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN: true,
	perdurepb.Reason_REASON_OVERLOADED:         true,
	perdurepb.Reason_REASON_STOPPING:           true,
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN:    true,
	perdurepb.Reason_REASON_CLIENT_TIMEOUT:     true,
	perdurepb.Reason_REASON_REALM_FORMING:      true,
}

func (f *fault) proto() *perdurepb.Error {
	return &perdurepb.Error{
		Reason: f.reason, Message: f.text, Retryable: retryable[f.reason],
		Leader: f.leader, LastSequence: f.last, Problems: f.problems,
	}
}

// GRPCStatus lets gRPC send the fault with its details.
func (f *fault) GRPCStatus() *status.Status {
	s := status.New(codesOf[f.reason], f.text)
	if detailed, err := s.WithDetails(f.proto()); err == nil {
		return detailed
	}
	return s
}

// asFault gives every error a reason. What has none is internal: its text is
// kept out of answers.
func asFault(err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, cluster.ErrMayHaveForgotten):
		return faultf(perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN, "%v; the service must be replaced", err)
	case errors.Is(err, cluster.ErrNotLeader):
		return faultf(perdurepb.Reason_REASON_NOT_LEADER, "this server does not lead the cluster")
	case errors.Is(err, cluster.ErrStopped):
		return faultf(perdurepb.Reason_REASON_STOPPING, "the service has stopped on this server; ask another")
	case errors.Is(err, cluster.ErrUnknownOutcome):
		return faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "leadership was lost meanwhile: it may or may not have been carried out")
	case errors.Is(err, cluster.ErrTooLarge):
		return faultf(perdurepb.Reason_REASON_BATCH_TOO_LARGE, "%v", err)
	case errors.Is(err, message.ErrName):
		return faultf(perdurepb.Reason_REASON_INVALID_NAME, "%v", err)
	case errors.Is(err, message.ErrMatcher):
		return faultf(perdurepb.Reason_REASON_INVALID_MATCHER, "%v", err)
	case errors.Is(err, message.ErrTooLarge):
		return faultf(perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, "%v", err)
	case errors.Is(err, message.ErrCorrupt):
		return faultf(perdurepb.Reason_REASON_BATCH_CORRUPT, "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "%v", err)
	}
	return faultf(perdurepb.Reason_REASON_INTERNAL, "internal error; see the server's log")
}
