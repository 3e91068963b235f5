package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/cluster"
)

// founders are the formations of several core servers in a bubble of fake time,
// which call each other directly.
type founders struct {
	t    *testing.T
	mu   sync.Mutex
	all  map[uint64]*formation
	down map[uint64]bool
	// fails, if not nil, may make a call fail before or after it was carried out.
	fails func(to uint64, kind uint8, after bool) error
	count map[string]int // copies made, by server
}

func newFounders(t *testing.T) *founders {
	return &founders{t: t, all: map[uint64]*formation{}, down: map[uint64]bool{}, count: map[string]int{}}
}

func coreList(n int) []CoreServer {
	list := make([]CoreServer, n)
	for i := range list {
		list[i] = CoreServer{ID: uint64(i + 1), Name: fmt.Sprintf("s%d", i+1), Addr: fmt.Sprintf("h:%d", i+1)}
	}
	return list
}

// add starts a server on a directory, as the process would.
func (w *founders) add(id uint64, dir string, core []CoreServer) *formation {
	w.t.Helper()
	self := core[id-1]
	ident, err := openIdentity(dir, self.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	f := newFormation(self, core, dir, ident, slog.New(slog.DiscardHandler))
	f.found = func(realmID) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.count[self.Name]++
		return nil
	}
	f.call = w.call
	w.mu.Lock()
	w.all[id] = f
	w.mu.Unlock()
	return f
}

func (w *founders) call(_ context.Context, to uint64, kind uint8, body []byte) ([]byte, error) {
	w.mu.Lock()
	f, fails := w.all[to], w.fails
	if w.down[to] {
		f = nil
	}
	w.mu.Unlock()
	if f == nil {
		return nil, errors.New("connection refused")
	}
	if fails != nil {
		if err := fails(to, kind, false); err != nil {
			return nil, err
		}
	}
	var answer []byte
	var err error
	if kind == callHello {
		answer, err = f.onHello()
	} else {
		answer, err = f.onFound(body)
	}
	if fails != nil && err == nil {
		err = fails(to, kind, true)
	}
	return answer, err
}

// run runs formations for a while, and returns what they came to by server; nil
// for those that still wait.
func (w *founders) run(d time.Duration, fs ...*formation) map[string]error {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	out := map[string]error{}
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(func() {
			err := f.run(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			if !errors.Is(err, context.DeadlineExceeded) {
				out[f.self.Name] = err
			}
		})
	}
	wg.Wait()
	return out
}

// same fails unless all belong to one realm, and returns it.
func (w *founders) same(fs ...*formation) realmID {
	w.t.Helper()
	for _, f := range fs {
		if f.realm().zero() || f.realm() != fs[0].realm() {
			w.t.Fatalf("server %s is in realm %v, %s in %v", f.self.Name, f.realm(), fs[0].self.Name, fs[0].realm())
		}
	}
	return fs[0].realm()
}

func TestFormationOfEmptyServers(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			w, fs := newFounders(t), []*formation{}
			for i := range n {
				fs = append(fs, w.add(uint64(i+1), t.TempDir(), coreList(n)))
			}
			got := w.run(time.Minute, fs...)
			for _, f := range fs {
				if err, done := got[f.self.Name]; !done || err != nil || w.count[f.self.Name] != 1 {
					t.Errorf("%d servers: %s: done %v, %v, %d copies", n, f.self.Name, done, err, w.count[f.self.Name])
				}
			}
			w.same(fs...)
		})
	}
}

// As long as one is missing nothing happens; when it comes, the realm forms.
func TestFormationWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		a, b := w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core)
		if got := w.run(10*time.Second, a, b); len(got) != 0 {
			t.Fatalf("formed without the third: %v", got)
		}
		if why := a.waitingFor(); !strings.Contains(why, "s3") || !strings.Contains(why, "refused") {
			t.Errorf("waits for %q", why)
		}
		if !a.realm().zero() || !b.realm().zero() {
			t.Fatal("belongs to a realm")
		}
		c := w.add(3, t.TempDir(), core)
		if got := w.run(10*time.Second, a, b, c); len(got) != 3 {
			t.Fatalf("done %v", got)
		}
		w.same(a, b, c)
	})
}

func TestFormationNeedsOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		other := coreList(3)
		other[1].Addr = "elsewhere:2"
		a, b, c := w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core), w.add(3, t.TempDir(), other)
		if got := w.run(10*time.Second, a, b, c); len(got) != 0 {
			t.Fatalf("formed: %v", got)
		}
		for f, want := range map[*formation]string{a: "elsewhere:2", c: "h:2"} {
			if why := f.waitingFor(); !strings.Contains(why, "agree on the list") || !strings.Contains(why, want) {
				t.Errorf("%s waits for %q", f.self.Name, why)
			}
		}
		if _, err := c.onFound([]byte(`{"core": ["s1=h:1"], "realm": "` + realmID{1}.String() + `"}`)); err == nil {
			t.Error("was told to found by a server with another list")
		}
	})
}

// The coordinator may crash at any moment: the realm it noted is the one that
// comes to be.
func TestFormationSurvivesTheCoordinator(t *testing.T) {
	for crash := range 4 {
		synctest.Test(t, func(t *testing.T) {
			w, core := newFounders(t), coreList(3)
			dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
			a, b, c := w.add(1, dirs[0], core), w.add(2, dirs[1], core), w.add(3, dirs[2], core)
			ctx, cancel := context.WithCancelCause(t.Context())
			died := errors.New("the coordinator died")
			calls := 0
			w.fails = func(_ uint64, kind uint8, after bool) error {
				if kind != callFound {
					return nil
				}
				// Before and after the call to each of the others.
				if calls++; calls > crash {
					cancel(died)
					return died
				}
				return nil
			}
			_ = a.run(ctx) // dies
			cancel(nil)
			w.fails = nil
			noted := a.mu.id.Proposed
			if noted.zero() {
				t.Fatal("nothing was noted before others were told")
			}
			again := w.add(1, dirs[0], core)
			if got := w.run(10*time.Second, again, b, c); len(got) != 3 || got["s1"] != nil {
				t.Fatalf("crash %d: %v", crash, got)
			}
			if got := w.same(again, b, c); got != noted {
				t.Errorf("crash %d: realm %v, noted %v", crash, got, noted)
			}
		})
	}
}

// A server that lost its directory must not found, nor take part, whichever of
// them it is.
func TestFormationFencesWipedServers(t *testing.T) {
	for id := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			w, core := newFounders(t), coreList(3)
			fs := []*formation{w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core), w.add(3, t.TempDir(), core)}
			w.run(10*time.Second, fs...)
			realm := w.same(fs...)
			wiped := w.add(id+1, t.TempDir(), core)
			got := w.run(10*time.Second, wiped)
			if err := got[wiped.self.Name]; !errors.Is(err, cluster.ErrMayHaveForgotten) || !strings.Contains(err.Error(), realm.String()) {
				t.Fatalf("wiped %s: %v", wiped.self.Name, err)
			}
			if !wiped.realm().zero() || w.count[wiped.self.Name] != 1 {
				t.Errorf("wiped %s took part", wiped.self.Name)
			}
		})
	}
}

// Data of another realm is refused, by whoever founds and by who is told.
func TestFormationRefusesOtherRealms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		foreign := t.TempDir()
		id, err := openIdentity(foreign, "s2")
		if err != nil {
			t.Fatal(err)
		}
		id.Realm = realmID{9, 9}
		if err := id.save(foreign); err != nil {
			t.Fatal(err)
		}
		a, b, c := w.add(1, t.TempDir(), core), w.add(2, foreign, core), w.add(3, t.TempDir(), core)
		got := w.run(10*time.Second, a, b, c)
		if err := got["s1"]; !errors.Is(err, cluster.ErrMayHaveForgotten) || !strings.Contains(err.Error(), id.Realm.String()) {
			t.Errorf("the coordinator: %v", err)
		}
		if !a.realm().zero() || !c.realm().zero() || b.realm() != id.Realm {
			t.Errorf("realms %v %v %v", a.realm(), b.realm(), c.realm())
		}
		if err := b.accept(realmID{1}); err == nil || !strings.Contains(err.Error(), id.Realm.String()) {
			t.Errorf("told to join another realm: %v", err)
		}
		if err := b.accept(id.Realm); err != nil {
			t.Errorf("told again: %v", err)
		}
	})
}

// Two that wait, where the third has founded and crashed before they heard.
func TestFormationGoesOnFromAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core := newFounders(t), coreList(3)
		a, b, c := w.add(1, t.TempDir(), core), w.add(2, t.TempDir(), core), w.add(3, t.TempDir(), core)
		realm, err := a.propose(realmID{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.accept(realm); err != nil {
			t.Fatal(err)
		}
		if got := w.run(10*time.Second, a, b, c); len(got) != 3 {
			t.Fatalf("done %v", got)
		}
		if w.same(a, b, c) != realm {
			t.Error("another realm than the one that was noted")
		}
		for _, bad := range []string{"", "{}", `{"core": 3}`} {
			if _, err := b.onFound([]byte(bad)); err == nil {
				t.Errorf("told %q", bad)
			}
		}
	})
}
