package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/cluster"
)

// The first formation of a realm: when every core server is up, all are empty
// and agree on the list, the first of them draws a realm id, notes it durably,
// and tells the others to found; when all have, it founds too. A crash in
// between goes on from the note. The others take part when they hear that the
// coordinator has founded, not before: until then each of them may be told once
// more, also when it has lost its directory. An empty server that hears of a
// realm which its coordinator has finished founding is fenced.

// formationRetry is how long a server waits before it asks the others again.
const formationRetry = 100 * time.Millisecond

// hello is what core servers tell each other before there is a realm.
type hello struct {
	Name  string   `json:"name"`
	Core  []string `json:"core"` // name=address, sorted
	Realm realmID  `json:"realm"`
	// Founded says that all core servers belong to Realm.
	Founded bool `json:"founded"`
}

// found tells a core server to found the realm.
type found struct {
	Core  []string `json:"core"`
	Realm realmID  `json:"realm"`
}

// formation decides whether and when this core server founds a realm.
type formation struct {
	self  CoreServer
	core  []CoreServer
	dir   string
	log   *slog.Logger
	call  func(ctx context.Context, server uint64, kind uint8, body []byte) ([]byte, error)
	found func(realmID) error // makes the local copy of the realm group, durably, once

	mu struct {
		sync.Mutex
		id      *identity
		waiting string // what for, for status
	}
	told chan struct{} // capacity 1: this server has come to belong to a realm
}

func newFormation(self CoreServer, core []CoreServer, dir string, id *identity, log *slog.Logger) *formation {
	f := &formation{self: self, core: core, dir: dir, log: log, told: make(chan struct{}, 1)}
	f.mu.id = id
	f.mu.waiting = "the other core servers"
	return f
}

func (f *formation) list() []string {
	names := make([]string, len(f.core))
	for i, c := range f.core {
		names[i] = c.Name + "=" + c.Addr
	}
	return names
}

// realm returns the realm that this server belongs to, zero if none.
func (f *formation) realm() realmID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.id.Realm
}

// waitingFor says what the formation waits for.
func (f *formation) waitingFor() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.waiting
}

func (f *formation) wait(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.waiting = fmt.Sprintf(format, args...)
}

// founded reports whether all core servers belong to this server's realm.
func (f *formation) founded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.id.Founded
}

// run returns when this server may take part in its realm, or with an error that
// wraps cluster.ErrMayHaveForgotten when it is empty and the realm is not.
func (f *formation) run(ctx context.Context) error {
	for {
		if f.founded() {
			return nil
		}
		var err error
		if f.realm().zero() {
			err = f.attempt(ctx)
		} else {
			err = f.confirm(ctx)
		}
		if err != nil {
			return err
		}
		if f.founded() {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.told:
		case <-time.After(formationRetry):
		}
	}
}

// attempt asks all others once, and founds if this is the coordinator's turn.
func (f *formation) attempt(ctx context.Context) error {
	var elsewhere realmID
	coordinator := false // whether the coordinator belongs to a realm
	for _, c := range f.core {
		if c.ID == f.self.ID {
			continue
		}
		h, err := f.ask(ctx, c)
		if err != nil {
			f.wait("core server %s at %s: %v", c.Name, c.Addr, err)
			return nil
		}
		if !slices.Equal(h.Core, f.list()) {
			f.wait("core server %s to agree on the list: it has %v, this server %v", c.Name, h.Core, f.list())
			f.log.Warn("core lists differ", "server", c.Name, "theirs", h.Core, "ours", f.list())
			return nil
		}
		if !h.Realm.zero() {
			elsewhere = h.Realm
			coordinator = coordinator || c.ID == f.core[0].ID
		}
	}
	if f.self.ID == f.core[0].ID {
		return f.coordinate(ctx, elsewhere)
	}
	f.wait("core server %s to found the realm", f.core[0].Name)
	if coordinator && f.realm().zero() {
		return fmt.Errorf("%w: this server is empty, but its realm %s exists", cluster.ErrMayHaveForgotten, elsewhere)
	}
	return nil
}

func (f *formation) ask(ctx context.Context, c CoreServer) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	body, err := json.Marshal(f.hello())
	if err != nil {
		return hello{}, err
	}
	answer, err := f.call(ctx, c.ID, callHello, body)
	if err != nil {
		return hello{}, err
	}
	var h hello
	return h, json.Unmarshal(answer, &h)
}

// coordinate runs on the first core server once all others are up and agree.
func (f *formation) coordinate(ctx context.Context, elsewhere realmID) error {
	proposed, err := f.propose(elsewhere)
	if err != nil {
		return err
	}
	body, err := json.Marshal(found{Core: f.list(), Realm: proposed})
	if err != nil {
		return err
	}
	for _, c := range f.core[1:] {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := f.call(ctx, c.ID, callFound, body)
		cancel()
		if err != nil {
			f.wait("core server %s to found the realm: %v", c.Name, err)
			return nil
		}
	}
	return f.accept(proposed)
}

// propose returns the noted realm id, or draws and notes one.
func (f *formation) propose(elsewhere realmID) (realmID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !elsewhere.zero() && f.mu.id.Proposed != elsewhere {
		return realmID{}, fmt.Errorf("%w: this server is empty, but its realm %s exists", cluster.ErrMayHaveForgotten, elsewhere)
	}
	if f.mu.id.Proposed.zero() {
		next := *f.mu.id
		_, _ = rand.Read(next.Proposed[:])
		if err := next.save(f.dir); err != nil {
			return realmID{}, err
		}
		*f.mu.id = next
	}
	return f.mu.id.Proposed, nil
}

// accept makes this server part of realm, durably: first the copy of the realm
// group, then the note that it exists.
func (f *formation) accept(realm realmID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.id.Realm == realm {
		return nil
	}
	if !f.mu.id.Realm.zero() {
		return fmt.Errorf("this server belongs to realm %s, not %s", f.mu.id.Realm, realm)
	}
	if err := f.found(realm); err != nil {
		return err
	}
	next := *f.mu.id
	next.Realm, next.Founded = realm, f.self.ID == f.core[0].ID // the coordinator is the last
	if err := next.save(f.dir); err != nil {
		return err
	}
	*f.mu.id = next
	select {
	case f.told <- struct{}{}:
	default:
	}
	return nil
}

// confirm asks the others, the coordinator first, whether all have founded, and
// notes it.
func (f *formation) confirm(ctx context.Context) error {
	f.wait("core server %s to have founded the realm", f.core[0].Name)
	for _, c := range f.core {
		if c.ID == f.self.ID {
			continue
		}
		h, err := f.ask(ctx, c)
		if err != nil || !h.Founded {
			continue
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if h.Realm != f.mu.id.Realm {
			return fmt.Errorf("this server belongs to realm %s, and core server %s to %s; start it with a directory of its own", f.mu.id.Realm, c.Name, h.Realm)
		}
		next := *f.mu.id
		next.Founded = true
		if err := next.save(f.dir); err != nil {
			return err
		}
		*f.mu.id = next
		return nil
	}
	return nil
}

// hello is what this server tells others.
func (f *formation) hello() hello {
	return hello{Name: f.self.Name, Core: f.list(), Realm: f.realm(), Founded: f.founded()}
}

// onHello answers another core server.
func (f *formation) onHello() ([]byte, error) { return json.Marshal(f.hello()) }

// onFound carries out what the coordinator says.
func (f *formation) onFound(body []byte) ([]byte, error) {
	var m found
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if !slices.Equal(m.Core, f.list()) {
		return nil, errors.New("the core lists differ")
	}
	if m.Realm.zero() {
		return nil, errors.New("no realm id")
	}
	return nil, f.accept(m.Realm)
}
