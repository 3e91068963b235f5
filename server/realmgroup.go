package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
)

// Kinds of calls between servers. Numbers are never reused.
const (
	callHello    uint8 = 1 // hello -> hello
	callFound    uint8 = 2 // found -> nothing
	callView     uint8 = 4 // checksum of the view the caller has -> the view, when it is another
	callCommands uint8 = 6 // catalog commands as JSON -> a list of answered as JSON
	callClusters uint8 = 7 // cluster ids as JSON -> a list of clusterState as JSON
	callSaved    uint8 = 8 // name of a cluster as JSON -> stateAge as JSON
	callLoaded   uint8 = 9 // loadedState as JSON -> nothing
)

// viewFile is the cache of the realm as it was last seen, so that a server can
// serve its clusters while no core server answers.
const viewFile = "realm.view"

// viewWait is how long a call for a newer view is held.
const viewWait = 10 * time.Second

// realmRetry spaces attempts to reach the realm group's leader.
const realmRetry = 50 * time.Millisecond

// realmMachine is the catalog as a group's machine.
type realmMachine struct {
	*catalog.Machine
	changed func(*catalog.View)
	last    *catalog.View
	onLead  func()
}

func (m *realmMachine) Apply(e cluster.Entry, out []catalog.Result) ([]catalog.Result, error) {
	out, err := m.Machine.Apply(e.Index, e.Term, e.Stamp, e.Commands, out)
	m.notify()
	return out, err
}

func (m *realmMachine) notify() {
	if v := m.View(); v != m.last {
		m.last = v
		m.changed(v)
	}
}

func (m *realmMachine) Loaded(applied uint64) error {
	err := m.Machine.Loaded(applied)
	if err == nil {
		m.notify()
	}
	return err
}

func (m *realmMachine) Dead(func(uint64))                { /* no bodies in the realm's log */ }
func (m *realmMachine) Live(cluster.Range, func(uint64)) { /* nor any that live on */ }
func (m *realmMachine) Lead(uint64, cluster.Now)         { m.onLead() }
func (m *realmMachine) Unlead()                          {}
func (m *realmMachine) Deadline() int64                  { return 0 }
func (m *realmMachine) Settled(bool, cluster.Now)        {}
func (m *realmMachine) Commands(dst [][]byte, _ bool, _ cluster.Now) [][]byte {
	return dst
}

// realmNode is this server's part in the realm: on core servers a replica of the
// realm group, elsewhere a watcher of the core servers.
type realmNode struct {
	server    *Server
	self      *CoreServer // nil on an auxiliary server
	core      []CoreServer
	formation *formation
	logger    *slog.Logger

	mu struct {
		sync.Mutex
		view   *catalog.View
		change chan struct{} // closed when view changes
		group  *cluster.Group[catalog.Result]
		err    error // why this core server takes no part
	}
	lead chan struct{} // capacity 1: this server began to lead the realm
}

func newRealmNode(s *Server, core []CoreServer) *realmNode {
	n := &realmNode{server: s, core: core, logger: s.logger.With("group", "realm"), lead: make(chan struct{}, 1)}
	n.mu.change = make(chan struct{})
	for i := range core {
		if core[i].Name == s.config.Name {
			n.self = &core[i]
		}
	}
	if n.self != nil {
		n.formation = newFormation(*n.self, core, s.config.Data, s.id, n.logger)
		n.formation.found = n.create
	}
	if data, err := os.ReadFile(filepath.Join(s.config.Data, viewFile)); err == nil {
		if v, err := catalog.DecodeView(data); err == nil {
			n.mu.view = v
		} else {
			n.logger.Warn("cached view of the realm is not readable", "err", err)
		}
	}
	return n
}

// view returns the newest view of the realm; nil before there was one.
func (n *realmNode) view() *catalog.View {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.view
}

// watch returns the newest view and a channel that is closed when it changes.
func (n *realmNode) watch() (*catalog.View, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.view, n.mu.change
}

func (n *realmNode) setView(v *catalog.View) { n.advance(v) }

// advance makes v the newest view, unless the one there is newer; then it returns
// false. Old views come from a realm group that replays its log, here or on the
// core server that was asked. Acting on one would remove what runs.
func (n *realmNode) advance(v *catalog.View) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if older(v, n.mu.view) {
		return false
	}
	n.mu.view = v
	close(n.mu.change)
	n.mu.change = make(chan struct{})
	return true
}

// older reports whether v is surely older than have. Registrations and claims
// only grow within a revision.
func older(v, have *catalog.View) bool {
	if have == nil || !have.Founded {
		return false
	}
	return !v.Founded || cmp.Or(cmp.Compare(v.Revision, have.Revision), cmp.Compare(len(v.Servers), len(have.Servers)),
		cmp.Compare(claimed(v), claimed(have))) < 0
}

func claimed(v *catalog.View) int {
	n := len(v.Claims)
	for i := range v.Clusters {
		for _, s := range v.Clusters[i].Services {
			if s.Claimed {
				n++
			}
		}
	}
	return n
}

func (n *realmNode) group() *cluster.Group[catalog.Result] {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.group
}

// failure says why this core server takes no part in the realm group.
func (n *realmNode) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

func (n *realmNode) waitingFor() string {
	switch {
	case n.formation == nil:
		return "a core server that answers"
	case n.formation.founded():
		return "the realm group's leader to record that it is founded"
	}
	return n.formation.waitingFor()
}

func (n *realmNode) realmID() [16]byte {
	if n.formation != nil {
		return n.formation.realm()
	}
	if v := n.view(); v != nil {
		return v.RealmID
	}
	return [16]byte{}
}

// create makes this core server's copy of the realm group; once more is harmless.
func (n *realmNode) create(realmID) error {
	voters := make([]uint64, len(n.core))
	for i, c := range n.core {
		voters[i] = c.ID
	}
	return n.server.engines.create(syncEngine, newCopy{catalog.RealmGroup, n.self.ID, voters})
}

// run takes part in the realm until ctx ends.
func (n *realmNode) run(ctx context.Context) {
	if n.self == nil {
		n.follow(ctx)
		return
	}
	err := n.formation.run(ctx)
	if err == nil {
		err = n.start()
	}
	if err != nil {
		if ctx.Err() == nil {
			n.logger.Error("this core server takes no part in the realm group", "err", err)
			n.mu.Lock()
			n.mu.err = err
			n.mu.Unlock()
			n.follow(ctx)
		}
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.lead:
			// The proposal comes first: that this replica leads is told before
			// Leads says so. One that loses the leadership is not asked again; the
			// next leader is told as well.
			for !n.found(ctx) && n.group().Leads() && ctx.Err() == nil {
				n.logger.Info("founding the realm once more")
			}
		}
	}
}

// start opens this core server's replica of the realm group.
func (n *realmNode) start() error {
	log, err := n.server.engines.open(syncEngine, catalog.RealmGroup)
	if err != nil {
		return err
	}
	// Ids follow from the list. With another one this server would speak for
	// another member.
	if c := log.Copy(); c.ReplicaID != n.self.ID || len(c.Voters) != len(n.core) {
		return fmt.Errorf("the realm was founded with %d core servers, of which %s was number %d; in --core there are %d, and it is number %d: start it with the list of then (addresses may change)",
			len(c.Voters), n.self.Name, c.ReplicaID, len(n.core), n.self.ID)
	}
	machine := &realmMachine{Machine: catalog.New(), changed: n.setView, onLead: func() {
		select {
		case n.lead <- struct{}{}:
		default:
		}
	}}
	members := make([]cluster.Member, len(n.core))
	for i, c := range n.core {
		members[i] = cluster.Member{Replica: c.ID, Server: c.ID}
	}
	g, err := cluster.StartGroup(n.server.host, cluster.GroupConfig{
		Options: cluster.Options{
			Group: catalog.RealmGroup, ID: n.self.ID, Rank: int(n.self.ID - 1), Seed: n.server.incarnation,
			Tick: 50 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10, Beat: cluster.Beat,
		},
		Name: "realm", Members: members, OnFail: n.server.groupFailed,
	}, log, machine, machine)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.mu.group = g
	n.mu.Unlock()
	return nil
}

// found records the realm's id and core list, as the first command of a realm.
// It returns false if it must be tried again by whoever leads then.
func (n *realmNode) found(ctx context.Context) bool {
	if v := n.view(); v != nil && v.Founded {
		return true
	}
	f := catalog.Found{RealmID: n.realmID()}
	for _, c := range n.core {
		f.Core = append(f.Core, catalog.CoreServer{Name: c.Name, Peer: c.Addr})
	}
	r, err := propose(ctx, n.group(), f.Encode())
	if err != nil {
		n.logger.Warn("founding the realm", "err", err)
		return false
	}
	if r.Code != catalog.OK {
		n.logger.Error("founding the realm", "result", r.String())
	}
	return true
}

// follow watches the core servers, on a server that has no realm replica.
func (n *realmNode) follow(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		c := n.core[i%len(n.core)]
		if c.Name != n.server.config.Name {
			err := n.fetch(ctx, c)
			if err == nil {
				i-- // ask the same again: it answers when something changed
				continue
			}
			n.logger.Debug("core server does not answer", "server", c.Name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(realmRetry):
		}
	}
}

func (n *realmNode) fetch(ctx context.Context, c CoreServer) error {
	var have []byte
	if v := n.view(); v != nil {
		have = viewSum(v.Encode())
	}
	ctx, cancel := context.WithTimeout(ctx, viewWait+5*time.Second)
	defer cancel()
	body, err := n.server.transport.CallAddress(ctx, c.Addr, callView, have)
	if err != nil || len(body) == 0 {
		return err
	}
	v, err := catalog.DecodeView(body)
	if err != nil {
		return err
	}
	if !n.advance(v) {
		return fmt.Errorf("server %s has an older view of the realm, revision %d", c.Name, v.Revision)
	}
	return nil
}

// viewSum is the checksum inside an encoded view.
func viewSum(encoded []byte) []byte { return encoded[4:8] }

// cache keeps the view on disk as it changes.
func (n *realmNode) cache(ctx context.Context) {
	for {
		v, changed := n.watch()
		if v != nil && v.Founded {
			if err := writeFile(n.server.config.Data, viewFile, v.Encode()); err != nil {
				n.logger.Error("the view of the realm was not cached", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// onView answers a server that wants a view other than the one it has.
func (n *realmNode) onView(ctx context.Context, have []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, viewWait)
	defer cancel()
	for {
		v, changed := n.watch()
		if v != nil && v.Founded {
			if encoded := v.Encode(); string(viewSum(encoded)) != string(have) {
				return encoded, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// register keeps this server's addresses in the realm.
func (n *realmNode) register(ctx context.Context) {
	want := n.server.registration()
	for {
		v, changed := n.watch()
		// Before the realm is founded there are no ids: whoever registered first
		// would take one that the core list gives to another.
		done := v == nil || !v.Founded
		if !done {
			if have, ok := v.Server(want.Name); ok {
				want.ID, want.Core = have.ID, have.Core
				if done = have == want; done {
					n.server.setServerID(have.ID)
				}
			}
		}
		if done {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			continue
		}
		r, err := n.submit(ctx, catalog.Register{Server: want}.Encode(), true)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || r.Code != catalog.OK:
			n.logger.Warn("this server is not registered with the realm", "result", r.String(), "err", err)
		default:
			n.server.setServerID(r.ServerID)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(time.Second):
		}
	}
}
