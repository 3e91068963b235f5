package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
)

// Whoever interrupts a load, or does not know what came of it, hears how to go on.
func TestUnfinishedLoad(t *testing.T) {
	refused := &client.Error{Reason: "LOAD_REFUSED", Message: "it does not fit"}
	for _, tc := range []struct {
		err    error
		reason string
		hint   bool
	}{
		{fmt.Errorf("client: load cluster: %w", context.Canceled), reasonInterrupted, false},
		{errors.Join(client.ErrOutcomeUnknown, context.Canceled), "OUTCOME_UNKNOWN", true},
		{errors.Join(client.ErrOutcomeUnknown, &client.Error{Reason: "NO_LEADER", Message: "nobody leads", Retryable: true}), "OUTCOME_UNKNOWN", true},
		{refused, "LOAD_REFUSED", false},
	} {
		c := describe(unfinished(tc.err, "main"))
		if c.Reason != tc.reason || strings.Contains(c.Message, "repeat the command") != tc.hint || strings.Contains(c.Message, "cluster load main --abort") != tc.hint {
			t.Errorf("%v: %s: %s", tc.err, c.Reason, c.Message)
		}
	}
}
