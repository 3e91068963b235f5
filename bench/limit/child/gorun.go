package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

var errOrphaned = errors.New("go run, which started this program, is gone")

// UnderGoRun returns a context that ends with go run, if that is what started
// this program: killed, it leaves the program it runs behind, which would then
// measure for nobody. Whoever else started it may end before it.
func UnderGoRun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := os.Getppid()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
	if err == nil && strings.TrimSpace(string(name)) == "go" {
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for os.Getppid() == parent {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
			cancel(errOrphaned)
		}()
	}
	return ctx, func() { cancel(nil) }
}
