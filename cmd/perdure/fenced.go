package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/perdure/perdure/client"
)

// forgotten is what a server says of a service that is fenced. There is no way
// back for such a service, so nobody may wait for one.
const forgotten = "may have forgotten"

// fencedError says that a server is up and all that keeps it from being ready
// is that services of it are fenced.
type fencedError struct {
	server string
	why    []string // a line for each service
}

func (e *fencedError) Error() string {
	return strings.ReplaceAll(e.server+" is up and takes no part: "+strings.Join(e.why, "; "), " cluster: ", " ")
}

// fencedOnly reports whether nothing but fencing is the matter.
func fencedOnly(problems []string) bool {
	for _, p := range problems {
		if !strings.Contains(p, forgotten) {
			return false
		}
	}
	return len(problems) > 0
}

// fencedFleet is the servers that are fenced where all others are ready, or
// where too few are left to wait for.
type fencedFleet struct {
	fenced []*fencedError
	most   bool // of all servers
}

func (e *fencedFleet) Error() string {
	texts := make([]string, len(e.fenced))
	for i, f := range e.fenced {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

// whatNow says what fencing means to somebody who runs dev.
func (d *dev) whatNow() string {
	return fmt.Sprintf("this is final, as when a cluster in memory loses its process; to start anew remove %s, or choose another --data", d.dir)
}

// tolerate decides whether a dev goes on with servers that are fenced: if most
// are not, or if some cluster has a leader all the same.
func (d *dev) tolerate(ctx context.Context, e *fencedFleet) error {
	if e.most && !d.anyLeader(ctx) {
		return failuref("MAY_HAVE_FORGOTTEN", "%w; no cluster has a majority left: %s", e, d.whatNow())
	}
	for _, f := range e.fenced {
		d.say("warning: %v; the cluster goes on with the others; %s", f, d.whatNow())
	}
	return nil
}

// anyLeader asks the servers, once each, whether some cluster has a leader.
func (d *dev) anyLeader(ctx context.Context) bool {
	c, err := client.Connect(ctx, d.fleet.connect(), client.WithName("perdure dev"))
	if err != nil {
		return false
	}
	defer closeClient(c)
	for _, n := range d.fleet.nodes {
		s, err := c.Admin().StatusAt(ctx, n.client)
		if err != nil {
			continue // another may know
		}
		for _, cluster := range s.Clusters {
			if cluster.Leader != "" {
				return true
			}
		}
	}
	return false
}
