package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/raftlog"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store/statefile"
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

// nature is what foreign clients branch on: the status code, and whether the
// same request may succeed later, perhaps elsewhere.
type nature struct {
	code  codes.Code
	retry bool
}

// natures decides about every reason.
var natures = map[perdurepb.Reason]nature{
	perdurepb.Reason_REASON_INVALID_ARGUMENT:   {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_NO_SUCH_ENDPOINT:   {codes.NotFound, false},
	perdurepb.Reason_REASON_NO_SUCH_STORE:      {codes.NotFound, false},
	perdurepb.Reason_REASON_NO_SUCH_DURABLE:    {codes.NotFound, false},
	perdurepb.Reason_REASON_INVALID_NAME:       {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_INVALID_MATCHER:    {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_MATCHER_MISMATCH:   {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_KIND_MISMATCH:      {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_NO_TEMPLATE:        {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_NO_SUCH_CLUSTER:    {codes.NotFound, false},
	perdurepb.Reason_REASON_MESSAGE_TOO_LARGE:  {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_BATCH_TOO_LARGE:    {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_BATCH_CORRUPT:      {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_STORE_FULL:         {codes.ResourceExhausted, true},
	perdurepb.Reason_REASON_SEQUENCE_GAP:       {codes.FailedPrecondition, true},
	perdurepb.Reason_REASON_SEQUENCE_REUSED:    {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_RECEIPT_FORGOTTEN:  {codes.OutOfRange, false},
	perdurepb.Reason_REASON_ABORTED:            {codes.Aborted, true},
	perdurepb.Reason_REASON_SESSION_UNKNOWN:    {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_EPOCH_CHANGED:      {codes.DataLoss, false},
	perdurepb.Reason_REASON_NOT_OWNER:          {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_FORCE_CLOSED:       {codes.Aborted, false},
	perdurepb.Reason_REASON_DURABLE_DELETED:    {codes.NotFound, false},
	perdurepb.Reason_REASON_ALREADY_SUBSCRIBED: {codes.AlreadyExists, false},
	perdurepb.Reason_REASON_NOT_LEADER:         {codes.Unavailable, true},
	perdurepb.Reason_REASON_NO_LEADER:          {codes.Unavailable, true},
	perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN: {codes.Unavailable, true},
	perdurepb.Reason_REASON_OVERLOADED:         {codes.ResourceExhausted, true},
	perdurepb.Reason_REASON_STOPPING:           {codes.Unavailable, true},
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN:    {codes.Unknown, true},
	perdurepb.Reason_REASON_CLIENT_TIMEOUT:     {codes.DeadlineExceeded, true},
	perdurepb.Reason_REASON_CORRUPT:            {codes.DataLoss, true},
	perdurepb.Reason_REASON_SUSPENDED:          {codes.Unavailable, true},
	perdurepb.Reason_REASON_NOT_SUSPENDED:      {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_REALM_INVALID:      {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_REVISION_CONFLICT:  {codes.Aborted, false},
	perdurepb.Reason_REASON_REALM_FORMING:      {codes.Unavailable, true},
	perdurepb.Reason_REASON_STATE_TRUNCATED:    {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_STATE_ALTERED:      {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_STATE_FOREIGN:      {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_STATE_NEWER:        {codes.InvalidArgument, false},
	perdurepb.Reason_REASON_NOT_EMPTY:          {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_LOAD_REFUSED:       {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_LOADING:            {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_NO_SUCH_LOAD:       {codes.NotFound, false},
	perdurepb.Reason_REASON_NO_SUCH_FILE:       {codes.NotFound, false},
	perdurepb.Reason_REASON_FILE_FAILED:        {codes.FailedPrecondition, false},
	perdurepb.Reason_REASON_INTERNAL:           {codes.Internal, false},
}

func (f *fault) proto() *perdurepb.Error {
	return &perdurepb.Error{
		Reason: f.reason, Message: f.text, Retryable: natures[f.reason].retry,
		Leader: f.leader, LastSequence: f.last, Problems: f.problems,
	}
}

// GRPCStatus lets gRPC send the fault with its details.
func (f *fault) GRPCStatus() *status.Status {
	s := status.New(natures[f.reason].code, f.text)
	if detailed, err := s.WithDetails(f.proto()); err == nil {
		return detailed
	}
	return s
}

// asFault gives every error a reason. What has none is internal: its text is
// kept out of answers.
func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	if wrong := (*statefile.Error)(nil); errors.As(err, &wrong) {
		return faultf(stateReasons[wrong.Code], "%v", wrong)
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			if k.text != "" {
				return faultf(k.reason, "%s", k.text)
			}
			return faultf(k.reason, "%v", err)
		}
	}
	return faultf(perdurepb.Reason_REASON_INTERNAL, "internal error; see the server's log")
}

// stateReasons are the reasons why a file is no state to load.
var stateReasons = map[statefile.Code]perdurepb.Reason{
	statefile.Truncated: perdurepb.Reason_REASON_STATE_TRUNCATED,
	statefile.Altered:   perdurepb.Reason_REASON_STATE_ALTERED,
	statefile.Foreign:   perdurepb.Reason_REASON_STATE_FOREIGN,
	statefile.Newer:     perdurepb.Reason_REASON_STATE_NEWER,
}

// known are the errors of other packages that have a reason, the more precise
// ones first. Without a text they speak for themselves.
var known = []struct {
	err    error
	reason perdurepb.Reason
	text   string
}{
	{cluster.ErrMayHaveForgotten, perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN, ""},
	{cluster.ErrNotLeader, perdurepb.Reason_REASON_NOT_LEADER, "this server does not lead the cluster"},
	{cluster.ErrInstalling, perdurepb.Reason_REASON_OVERLOADED, "the service takes over a snapshot and has no state of its own; try again soon"},
	{cluster.ErrStopped, perdurepb.Reason_REASON_STOPPING, "the service has stopped on this server; ask another"},
	{cluster.ErrUnknownOutcome, perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "leadership was lost meanwhile: it may or may not have been carried out"},
	{cluster.ErrTooLarge, perdurepb.Reason_REASON_BATCH_TOO_LARGE, ""},
	{service.ErrNoDurable, perdurepb.Reason_REASON_NO_SUCH_DURABLE, "the durable was deleted meanwhile"},
	{service.ErrForceClosed, perdurepb.Reason_REASON_FORCE_CLOSED, "a newer subscriber took the durable"},
	{service.ErrSuspended, perdurepb.Reason_REASON_SUSPENDED, "the cluster is suspended; perdure cluster resume ends that"},
	{raftlog.ErrCorrupt, perdurepb.Reason_REASON_CORRUPT, "stored data failed a check; see the server's log"},
	{message.ErrMatcher, perdurepb.Reason_REASON_INVALID_MATCHER, ""},
	{message.ErrName, perdurepb.Reason_REASON_INVALID_NAME, ""},
	{message.ErrTooLarge, perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, ""},
	{message.ErrCorrupt, perdurepb.Reason_REASON_BATCH_CORRUPT, ""},
	{message.ErrVersion, perdurepb.Reason_REASON_BATCH_CORRUPT, ""},
	{message.ErrUTF8, perdurepb.Reason_REASON_INVALID_ARGUMENT, ""},
	{message.ErrDuplicate, perdurepb.Reason_REASON_INVALID_ARGUMENT, ""},
	{message.ErrValue, perdurepb.Reason_REASON_INVALID_ARGUMENT, ""},
	{context.Canceled, perdurepb.Reason_REASON_OUTCOME_UNKNOWN, ""},
	{context.DeadlineExceeded, perdurepb.Reason_REASON_OUTCOME_UNKNOWN, ""},
}

// goneError says that a client's stream ended under the server: nobody is left
// to be told.
type goneError struct{ cause error }

func (e *goneError) Error() string              { return e.cause.Error() }
func (e *goneError) Unwrap() error              { return e.cause }
func (e *goneError) GRPCStatus() *status.Status { return status.Convert(e.cause) }

// receiveFault gives a reason to what gRPC says when a frame does not arrive.
func receiveFault(err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return faultf(perdurepb.Reason_REASON_BATCH_TOO_LARGE, "a frame over %d bytes; send smaller batches: %v", maxReceive, err)
	case codes.Internal:
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "a frame that does not decode: %v", err)
	}
	return &goneError{err}
}

// streamEnd is what a stream answers that ended with err; ctx is gRPC's.
func (s *Server) streamEnd(ctx context.Context, err error, t *target) error {
	var gone *goneError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &gone):
		return gone
	case unsent(err) || ctx.Err() != nil:
		return &goneError{err}
	}
	return s.asFaultAt(err, t)
}

// unsent tells whether err is what gRPC says when a frame cannot be sent because
// the client has gone.
func unsent(err error) bool {
	var f *fault
	if errors.As(err, &f) {
		return false
	}
	s, ok := status.FromError(err)
	return ok && (s.Code() == codes.Canceled || s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded)
}

// ending says why the service ended a stream.
func (s *Server) ending(why perdurepb.Reason, what string) *fault {
	if why == perdurepb.Reason_REASON_NOT_LEADER && s.stopping() {
		why = perdurepb.Reason_REASON_STOPPING
	}
	return faultf(why, "%s ended: %s", what, endings[why])
}

var endings = map[perdurepb.Reason]string{
	perdurepb.Reason_REASON_NOT_LEADER:      "this server does not lead any more",
	perdurepb.Reason_REASON_STOPPING:        "this server is stopping",
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN: "this server does not lead any more; what was on its way may or may not be stored",
	perdurepb.Reason_REASON_FORCE_CLOSED:    "a newer subscriber took the durable",
	perdurepb.Reason_REASON_DURABLE_DELETED: "the durable was deleted",
}
