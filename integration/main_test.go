package integration

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/perdure/perdure/integration/harness"
)

// The long forms. The defaults are what go test ./... has time for.
var (
	kills     = flag.Int("kills", 6, "how often TestKillLoop kills a server, in each durability mode, TestSuspendUnderLoad a leader, and TestKilledAnywhere a server")
	minute    = flag.Bool("minute", false, "TestNoElectionUnderLoad lasts a minute instead of 10 seconds")
	streamGB  = flag.Int("stream-gb", 0, "size of TestConsumedStreamLeavesTheDisk's stream, in GB, instead of 300 MB")
	stateGB   = flag.Int("state-gb", 0, "size of TestLargeState's state, in GB, instead of 48 MB")
	pendingUp = flag.Int("pending", 50_000, "how many messages are pending when TestRestartWithPending restarts a server")
)

func TestMain(m *testing.M) { harness.Main(m) }

// within is a context for one call.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
