package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// TestEveryReasonHasASentinel walks the enum, so that a new reason cannot be
// forgotten here.
func TestEveryReasonHasASentinel(t *testing.T) {
	for number, name := range perdurepb.Reason_name {
		reason := perdurepb.Reason(number)
		if reason == perdurepb.Reason_REASON_UNSPECIFIED {
			continue
		}
		code := strings.TrimPrefix(name, "REASON_")
		sent := &perdurepb.Error{Reason: reason, Leader: &perdurepb.Leader{Server: "s2", Address: "h:1"}, LastSequence: 9}
		s, err := status.New(codes.Unknown, "text").WithDetails(sent)
		if err != nil {
			t.Fatal(err)
		}
		got := fromStatus("h:0", fmt.Errorf("wrapped: %w", s.Err()))
		want := sentinels[code]
		if want == nil || !errors.Is(got, want) {
			t.Errorf("%s: %v is not its sentinel", code, got)
			continue
		}
		for other, s := range sentinels {
			if other != code && other != "NOT_FOUND" && errors.Is(got, s) {
				t.Errorf("%s is also %s", code, other)
			}
		}
		if strings.HasPrefix(code, "NO_SUCH_") != errors.Is(got, ErrNotFound) {
			t.Errorf("%s: ErrNotFound is wrong", code)
		}
		var e *Error
		if !errors.As(got, &e) || e.Reason != code || e.LastSequence != 9 || leaderHint(got) != "h:1" || !strings.Contains(e.Error(), want.text) {
			t.Errorf("%s: %+v", code, e)
		}
	}
}

func TestErrorsWithoutAReason(t *testing.T) {
	for _, tt := range []struct {
		err       error
		want      error
		retryable bool
	}{
		{status.Error(codes.Unavailable, "refused"), ErrUnavailable, true},
		{status.Error(codes.Internal, "RST_STREAM"), ErrUnavailable, true},
		{errors.New("EOF"), ErrUnavailable, true},
		{status.Error(codes.Unimplemented, "no method"), ErrInternal, false},
		{status.Error(codes.InvalidArgument, "no"), ErrInvalidArgument, false},
		{status.Error(codes.DeadlineExceeded, "late"), context.DeadlineExceeded, true},
		{status.Error(codes.Canceled, "stop"), context.Canceled, false},
		{context.Canceled, context.Canceled, false},
		{fmt.Errorf("again: %w", refusal(ErrStoreFull, nil, "x")), ErrStoreFull, false},
	} {
		got := fromStatus("h:1", tt.err)
		if !errors.Is(got, tt.want) || isRetryable(got) != tt.retryable {
			t.Errorf("%v became %v, retryable %v", tt.err, got, isRetryable(got))
		}
	}
	if fromStatus("h:1", nil) != nil {
		t.Error("nil became an error")
	}
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"client: STORE_FULL: the store is full": &Error{Reason: "STORE_FULL"},
		"client: STORE_FULL: 3 of 3 bytes":      &Error{Reason: "STORE_FULL", Message: "3 of 3 bytes"},
		"client: NEW_REASON":                    &Error{Reason: "NEW_REASON"},
		"client: closed":                        ErrClosed,
		`client: drain of "x": closed`:          during(ErrClosed, "drain of %q", "x"),
		`client: drain of "y": disk`:            during(errors.New("disk"), "drain of %q", "y"),
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := unknown(ErrOutcomeUnknown); err != ErrOutcomeUnknown {
		t.Errorf("unknown twice: %v", err)
	}
}
