package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm"
)

// A server that was told to found takes no part before its coordinator belongs
// to the realm too. Otherwise two could begin without it, one of them could lose
// its directory, and be told once more by a coordinator that comes back: it
// would be a member that has forgotten.
func TestNobodyTakesPartBeforeAllHaveFounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		a, b, c := w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core), w.add(3, t.TempDir(), core)
		able := a.found
		a.found = func(realmID) error { return errors.New("disk full") }
		got := w.run(10*time.Second, a, b, c)
		if len(got) != 1 || got["s1"] == nil {
			t.Fatalf("done %v although the coordinator has not founded", got)
		}
		if b.realm().zero() || c.realm().zero() {
			t.Fatal("the others were not told")
		}
		// Whatever becomes of those that took no part, nothing is lost.
		dir := t.TempDir()
		b = w.add(2, dir, core)
		a.found = able
		if got := w.run(10*time.Second, a, b, c); len(got) != 3 || got["s1"] != nil || got["s2"] != nil || got["s3"] != nil {
			t.Fatalf("done %v", got)
		}
		w.same(a, b, c)
		// What has begun goes on alone.
		w.down[1], w.down[3] = true, true
		if got := w.run(10*time.Second, w.add(2, dir, core)); len(got) != 1 || got["s2"] != nil {
			t.Errorf("a restart without the others: %v", got)
		}
	})
}

// A server that stopped between being told and hearing that all have founded
// learns it from any that has begun.
func TestWhoMissedTheFoundingHearsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		dir := t.TempDir()
		a, b := w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core)
		w.add(3, dir, core)
		if got := w.run(10*time.Second, a, b); len(got) != 2 { // the third is told, and does not run
			t.Fatalf("done %v", got)
		}
		c := w.add(3, dir, core)
		w.down[1] = true
		if got := w.run(10*time.Second, c); len(got) != 1 || got["s3"] != nil {
			t.Errorf("done %v", got)
		}
		w.same(a, b, c)
	})
}

// Ids of core servers follow from the list. With another list this server would
// speak for another member.
func TestAnotherCoreListIsRefused(t *testing.T) {
	for name, core := range map[string]string{
		"other id":   "a=127.0.0.1:1,s1=127.0.0.1:2,s2=127.0.0.1:3",
		"other size": "s1=127.0.0.1:1,s2=127.0.0.1:2,s3=127.0.0.1:3",
	} {
		t.Run(name, func(t *testing.T) {
			config := single(t)
			n := open(t, config)
			n.until("the realm is formed", func() bool { return n.forming() == nil })
			n.stop()
			config.Core = core
			n = open(t, config)
			n.until("the list is refused", func() bool { return n.realm.failure() != nil })
			if err := n.realm.failure(); !strings.Contains(err.Error(), "--core") {
				t.Errorf("refused by %v", err)
			}
			if n.realm.group() != nil {
				t.Error("the replica runs")
			}
		})
	}
}

// The directory of one engine is gone, be it that its disk was not mounted: the
// rest of the data directory remembers that there was a copy.
func TestALostEngineIsNotReplacedByAnEmptyOne(t *testing.T) {
	config := single(t)
	n := open(t, config)
	n.apply(testRealm)
	n.stop()
	if err := os.RemoveAll(filepath.Join(config.Data, realm.Async.String())); err != nil {
		t.Fatal(err)
	}
	n = open(t, config)
	n.until("the service is fenced", func() bool {
		all := n.reconciler.all()
		return len(all) == 1 && (errors.Is(all[0].err, cluster.ErrMayHaveForgotten) || all[0].group != nil)
	})
	if h := n.reconciler.all()[0]; h.group != nil {
		t.Error("an empty copy takes the place of one that is lost")
	}
}
