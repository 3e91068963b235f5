package server

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/message"
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
		if err := l.look(svc.Machine); err != nil {
			n.t.Error(err)
		}
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

// A load with --replace into an empty cluster goes on where it was, too.
func TestLoadWithReplaceGoesOn(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	other := start(t, testRealm)
	l := other.looked(&perdurepb.LoadOpen{Replace: true}, file)
	if err := l.begin(other.ctx(), false); err != nil {
		t.Fatal(err)
	}
	if loaded, err := other.load(&perdurepb.LoadOpen{Replace: true}, file); err != nil || loaded.Messages != 6 {
		t.Errorf("%v (%v)", loaded, err)
	}
	if id := other.last("flights"); id.Epoch() != 0 {
		t.Errorf("its last id is %v", id)
	}
}

// last returns the last id of a store of cluster main.
func (n *node) last(name string) (id message.ID) {
	n.t.Helper()
	if err := n.reconciler.all()[0].group.Do(n.ctx(), func(cluster.Now) {
		st, _ := n.reconciler.all()[0].service.StoreByName(name)
		id = st.LastID()
	}); err != nil {
		n.t.Fatal(err)
	}
	return id
}

// Who does not hear that a load was committed, because he was killed, repeats it: it
// is not done again, as long as the cluster was not resumed.
func TestLoadRepeated(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, manifest := n.save(&perdurepb.SaveClusterRequest{})
	want := func(n *node, open *perdurepb.LoadOpen, before, resumed bool) {
		t.Helper()
		if l, err := n.load(open, file); err != nil || l.Before != before || l.Resumed != resumed || l.StateHash != manifest.StateHash {
			t.Fatalf("loaded %v (%v), want before %v, resumed %v", l, err, before, resumed)
		}
	}
	for _, replace := range []bool{false, true} {
		other := start(t, testRealm)
		if replace {
			other.mustPublisher("flights").stored(1, 1, bodies("x"))
			other.suspend()
		}
		want(other, &perdurepb.LoadOpen{Replace: replace}, false, false)
		last := other.last("flights")
		want(other, &perdurepb.LoadOpen{Replace: replace, DryRun: true}, true, false)
		want(other, &perdurepb.LoadOpen{Replace: replace}, true, false)
		if now := other.last("flights"); now != last || replace != (last.Epoch() > 0) {
			t.Errorf("replace %v: the last id is %v, and was %v", replace, now, last)
		}
		other.wantSuspended(true)
		other.resume()
		other.suspend() // what is pending may have changed: it is another load
		_, err := other.load(&perdurepb.LoadOpen{}, file)
		wantReason(t, err, perdurepb.Reason_REASON_NOT_EMPTY)
		want(other, &perdurepb.LoadOpen{Replace: true}, false, false)
		if now := other.last("flights"); now.Epoch() != last.Epoch()+1 {
			t.Errorf("replaced again: the last id is %v, and was %v", now, last)
		}
	}

	other := start(t, testRealm)
	named := &perdurepb.LoadOpen{Load: 77}
	want(other, named, false, false)
	want(other, named, true, false)
	other.resume()
	want(other, named, true, true)
	other.mustPublisher("flights").stored(1, 1, bodies("x"))
	_, err := other.load(named, file)
	if e := wantReason(t, err, perdurepb.Reason_REASON_NOT_EMPTY); !strings.Contains(e.Message, `"flights"`) {
		t.Error(e.Message)
	}
	other.wantSuspended(false)
}

// Two load the same file: who comes second to the end hears that it is loaded.
func TestLoadOfTwo(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	other := start(t, testRealm)
	first, second := other.looked(&perdurepb.LoadOpen{}, file), other.looked(&perdurepb.LoadOpen{}, file)
	for _, l := range []*loading{first, second} {
		if err := l.begin(other.ctx(), l == second); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.replicate(other.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := second.replicate(other.ctx()); err == nil || !second.elsewhere(other.ctx(), err) || !second.before {
		t.Errorf("the second load ends with %v", err)
	}
}
