package server

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// TestClientsThatAreGone shows which ends of a stream are the client's own: those
// are no errors of the server, whether receiving or sending noticed first.
func TestClientsThatAreGone(t *testing.T) {
	for err, want := range map[error]bool{
		status.Error(codes.Canceled, "context canceled"):             true,
		status.Error(codes.Unavailable, "transport is closing"):      true,
		fmt.Errorf("send: %w", status.Error(codes.Canceled, "gone")): true,
		status.Error(codes.Internal, "it does not encode"):           false,
		context.Canceled:                                     false,
		errors.New("the disk is on fire"):                    false,
		faultf(perdurepb.Reason_REASON_STOPPING, "stopping"): false, // Unavailable, and ours
	} {
		if got := unsent(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
