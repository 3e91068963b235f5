package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

const (
	// RealmGroup is the group id of the realm group itself.
	RealmGroup uint64 = 1
	// FirstCluster is the lowest id of a cluster. Those below are for groups
	// that no definition lists.
	FirstCluster uint64 = 16
	// MaxID is above every id that this package gives.
	MaxID uint64 = 1 << 48
)

// maxAddress bounds what a server says about itself, in bytes.
const maxAddress = 1024

// Machine is the state machine of the realm group. One goroutine owns it; what
// View returns may be shared.
//
// Invariants:
//
//  1. clusters, endpoints, servers and revisions ascend by id or number;
//  2. no id is above its counter in meta;
//  3. pages holds exactly the encoded state, and hash is the sum over it.
type Machine struct {
	meta      *statepb.CatalogMeta
	revisions []Revision
	clusters  []*statepb.CatalogCluster
	endpoints []*statepb.CatalogEndpoint
	servers   []*statepb.CatalogServer

	current *realm.Realm             // of the newest revision; nil if there is none
	defined *names                   // of current; nil: to be made anew
	newest  *statepb.CatalogRevision // while loading: the newest so far
	view    *View                    // nil: to be made anew

	pages map[string][]byte
	dirty map[string]struct{}
	hash  uint64
}

// New returns the machine of a realm that was not founded.
func New() *Machine {
	m := &Machine{}
	m.Reset()
	return m
}

// Apply applies the commands of the entry at index and appends one result for
// each to out. stamp is cluster time in nanoseconds since 1970. commands are
// not kept. An error means that this replica must stop; out is then void.
func (m *Machine) Apply(index, term uint64, stamp int64, commands [][]byte, out []Result) ([]Result, error) {
	for _, b := range commands {
		c, err := decode(b)
		if errors.Is(err, errUndecodable) {
			m.meta.Undecodable++
			m.putMeta()
			out = append(out, m.result(Undecodable, fmt.Sprintf("entry %d of term %d: %v; report this", index, term, err)))
			continue
		}
		if err != nil {
			return out, fmt.Errorf("entry %d of term %d: %w", index, term, err)
		}
		var r Result
		switch c := c.GetCommand().(type) {
		case *statepb.CatalogCommand_Found:
			r = m.found(c.Found)
		case *statepb.CatalogCommand_Apply:
			r = m.define(c.Apply, stamp)
		case *statepb.CatalogCommand_Register:
			r = m.register(c.Register.GetServer())
		case *statepb.CatalogCommand_Claim:
			r = m.claim(c.Claim)
		default:
			return out, fmt.Errorf("entry %d of term %d: %w", index, term, ErrUnknownCommand)
		}
		out = append(out, r)
	}
	return out, nil
}

func (m *Machine) result(c Code, detail string) Result {
	return Result{Code: c, Revision: m.meta.GetRevision(), Detail: detail}
}

func (m *Machine) found(c *statepb.CatalogFound) Result {
	if len(c.GetRealmId()) != 16 {
		return m.result(Refused, fmt.Sprintf("a realm id has 16 bytes, not %d", len(c.GetRealmId())))
	}
	if have := m.meta.GetRealmId(); len(have) > 0 {
		if !slices.Equal(have, c.GetRealmId()) {
			return m.result(Refused, fmt.Sprintf("the realm is founded as %x, not %x; this server belongs to another realm", have, c.GetRealmId()))
		}
		return m.result(OK, "")
	}
	names := map[string]bool{}
	for _, s := range c.GetCore() {
		if err := realm.ValidName(s.GetName()); err != nil || names[s.GetName()] || len(s.GetPeer()) > maxAddress {
			return m.result(Refused, fmt.Sprintf("the core list names %q twice or not validly; correct it on every core server", s.GetName()))
		}
		names[s.GetName()] = true
	}
	m.meta.RealmId = slices.Clone(c.GetRealmId())
	for _, s := range c.GetCore() {
		m.meta.Core = append(m.meta.Core, &statepb.CatalogCore{Name: s.GetName(), Peer: s.GetPeer()})
		p := m.server(s.GetName())
		p.Core = true
		if p.Peer == "" {
			p.Peer = s.GetPeer()
		}
		m.put(serverKey(p.GetId()), p)
	}
	m.putMeta()
	return m.result(OK, "")
}

// server returns the server of that name, with a new id if there is none.
func (m *Machine) server(name string) *statepb.CatalogServer {
	for _, s := range m.servers {
		if s.GetName() == name {
			return s
		}
	}
	m.meta.LastServer++
	s := &statepb.CatalogServer{Id: m.meta.GetLastServer(), Name: name, Core: m.coreIndex(name) >= 0}
	m.servers = append(m.servers, s)
	return s
}

func (m *Machine) coreIndex(name string) int {
	return slices.IndexFunc(m.meta.GetCore(), func(c *statepb.CatalogCore) bool { return c.GetName() == name })
}

func (m *Machine) register(s *statepb.CatalogServer) Result {
	if err := realm.ValidName(s.GetName()); err != nil {
		return m.result(Refused, fmt.Sprintf("server name: %v; start the server with another --name", err))
	}
	for _, text := range []string{s.GetClient(), s.GetPeer(), s.GetOps(), s.GetRegion()} {
		if len(text) > maxAddress {
			return m.result(Refused, fmt.Sprintf("server %q: an address or region of %d bytes; use at most %d", s.GetName(), len(text), maxAddress))
		}
	}
	p := m.server(s.GetName())
	was := serverOf(p)
	p.Client, p.Peer, p.Ops, p.Region = s.GetClient(), s.GetPeer(), s.GetOps(), s.GetRegion()
	p.Core = s.GetCore() || m.coreIndex(s.GetName()) >= 0
	if serverOf(p) != was || m.pages[serverKey(p.GetId())] == nil {
		m.putMeta()
		m.put(serverKey(p.GetId()), p)
	}
	r := m.result(OK, "")
	r.ServerID = p.GetId()
	return r
}

func (m *Machine) claim(c *statepb.CatalogClaim) Result {
	if c.GetTag() == 0 {
		return m.result(Refused, "a claim needs a tag that is not 0")
	}
	claims, server, detail := m.claimable(c.GetCluster(), c.GetReplica())
	if detail != "" {
		return m.result(Refused, detail)
	}
	if server == 0 || server != c.GetServer() {
		return m.result(Refused, fmt.Sprintf("replica %d of cluster %d is to be hosted by server %d, not %d; wait for the newest definition",
			c.GetReplica(), c.GetCluster(), server, c.GetServer()))
	}
	for _, have := range *claims {
		switch {
		case have.GetReplica() != c.GetReplica():
		case have.GetTag() == c.GetTag() && have.GetServer() == c.GetServer():
			return m.result(OK, "")
		default:
			return m.result(Refused, fmt.Sprintf("replica %d of cluster %d is claimed by another data directory of server %d; this one is empty or foreign, "+
				"put the old directory back", c.GetReplica(), c.GetCluster(), have.GetServer()))
		}
	}
	*claims = append(*claims, &statepb.CatalogClaimed{Replica: c.GetReplica(), Server: c.GetServer(), Tag: c.GetTag()})
	m.putClaims(c.GetCluster())
	return m.result(OK, "")
}

// claimable returns where claims on a replica are kept and which server is to
// host it (0 if it is not registered), or why there is no such replica.
func (m *Machine) claimable(cluster, replica uint64) (claims *[]*statepb.CatalogClaimed, server uint64, detail string) {
	if cluster == RealmGroup {
		if replica == 0 || replica > uint64(len(m.meta.GetCore())) {
			return nil, 0, fmt.Sprintf("the realm group has no replica %d", replica)
		}
		return &m.meta.Claims, m.serverID(m.meta.GetCore()[replica-1].GetName()), ""
	}
	c := m.clusterByID(cluster)
	if c == nil {
		return nil, 0, fmt.Sprintf("there is no cluster %d; it was deleted, or is not yet known here", cluster)
	}
	for _, r := range c.GetReplicas() {
		if r.GetId() != replica {
			continue
		}
		if s := service(m.names().clusters[c.GetName()], r.GetService()); s != nil {
			return &c.Claims, m.serverID(s.Server), ""
		}
	}
	return nil, 0, fmt.Sprintf("cluster %q has no replica %d", c.GetName(), replica)
}

func (m *Machine) serverID(name string) uint64 {
	for _, s := range m.servers {
		if s.GetName() == name {
			return s.GetId()
		}
	}
	return 0
}

// clusterByID finds a cluster; see invariant 1.
func (m *Machine) clusterByID(id uint64) *statepb.CatalogCluster {
	i, ok := slices.BinarySearchFunc(m.clusters, id, func(c *statepb.CatalogCluster, id uint64) int { return cmp.Compare(c.GetId(), id) })
	if !ok {
		return nil
	}
	return m.clusters[i]
}

// names finds by name in the current definition.
func (m *Machine) names() *names {
	if m.defined == nil {
		n := newNames(m.current)
		m.defined = &n
	}
	return m.defined
}
