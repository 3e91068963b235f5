package server

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/server/service"
)

// looked returns a load of a file by this server that is verified, and fits.
func (n *node) looked(open *perdurepb.LoadOpen, file []byte) *loading {
	n.t.Helper()
	open.Cluster = "main"
	t, err := n.clusterTarget("main")
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.ctx())
	n.t.Cleanup(cancel)
	l := &loading{s: n.Server, t: t, open: open}
	l.in = n.receiveState(ctx, new(atomic.Uint64), framesOf(bytes.NewReader(file)))
	if err := l.verify(); err != nil {
		n.t.Fatal(err)
	}
	if err := t.do(ctx, func(svc *service.Service) {
		if err := l.fit(svc.Machine); err != nil {
			n.t.Error(err)
		}
		l.load = l.derive(svc.LastLoad())
	}); err != nil {
		n.t.Fatal(err)
	}
	return l
}

// Somebody publishes into a cluster that was found empty, before it is suspended for
// a load: what was confirmed is not replaced, and the cluster goes on.
func TestLoadReplacesNothingConfirmed(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	other := start(t, testRealm)
	l := other.looked(&perdurepb.LoadOpen{Replace: true}, file)
	other.mustPublisher("flights").stored(1, 1, bodies("precious"))
	e := wantReason(t, asFault(l.begin(other.ctx(), false)), perdurepb.Reason_REASON_NOT_EMPTY)
	if !strings.Contains(e.Message, "perdure cluster suspend main") {
		t.Errorf("nothing says what to do: %s", e.Message)
	}
	other.nothingLoaded()
	other.wantSuspended(false)
	other.mustPublisher("flights").stored(1, 1, bodies("more"))
	if ids := other.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(2); ids[0] != 1 {
		t.Errorf("received %v", ids)
	}
}
