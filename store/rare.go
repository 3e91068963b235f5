package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// dynamicBit is set in the ids of dynamic durables: the realm gives the others.
const dynamicBit = 1 << 63

// applyRare applies a command that is protobuf.
func (m *Machine) applyRare(c []byte) (Result, error) {
	cmd := newRare(c[0])
	if err := proto.Unmarshal(c[1:], cmd); err != nil {
		return invalid(fmt.Sprintf("command of kind %d does not decode", c[0])), nil
	}
	switch cmd := cmd.(type) {
	case *statepb.OpenSession:
		return m.openSession(cmd), nil
	case *statepb.CloseSession:
		return m.closeSession(cmd.Session), nil
	case *statepb.CreateDurable:
		return m.createDurable(cmd), nil
	case *statepb.DeleteDurable:
		return m.deleteDurable(cmd.Durable)
	case *statepb.Attach:
		return m.attachTo(cmd), nil
	case *statepb.Detach:
		return m.detach(cmd), nil
	case *statepb.Deploy:
		return m.deploy(cmd)
	case *statepb.Checksum:
		return m.checksum(cmd), nil
	case *statepb.Suspend:
		return m.suspend(cmd), nil
	case *statepb.Resume:
		return m.resume(), nil
	case *statepb.LoadBegin:
		return m.loadBegin(cmd), nil
	case *statepb.LoadCommit:
		return m.loadCommit(cmd), nil
	case *statepb.LoadAbort:
		return m.loadAbort(cmd.Load), nil
	case *statepb.Tick:
		for _, id := range cmd.Keep {
			if x := m.sessions.byID[id]; x != nil {
				m.useSession(x)
			}
		}
	}
	return Result{}, nil
}

// createDurable applies a CreateDurable.
func (m *Machine) createDurable(c *statepb.CreateDurable) Result {
	s := m.store(c.Store)
	if s == nil {
		return Result{Code: NoSuchStore, Detail: fmt.Sprintf("store %d does not exist", c.Store)}
	}
	if err := message.ValidName(c.Name); err != nil {
		return Result{Code: InvalidName, Detail: err.Error()}
	}
	if !durableKind(c.Kind).Valid() {
		return invalid(fmt.Sprintf("durable kind %d is not known", c.Kind))
	}
	options, matcher, err := durable.Options{Kind: durableKind(c.Kind), Matcher: c.Matcher, Prefetch: c.Prefetch}.Canonical()
	if err != nil {
		return Result{Code: InvalidMatcher, Detail: err.Error()}
	}
	if d := s.names[c.Name]; d != nil {
		return d.linkable(options, c.Matcher != "")
	}
	if m.suspended {
		return isSuspended("no durable is created")
	}
	if s.spec.dynamicLimit > 0 && s.dynamic >= s.spec.dynamicLimit {
		return Result{Code: DurableLimit, Detail: fmt.Sprintf("store %q has %d dynamic durables, its dynamic_durable_limit", s.spec.name, s.dynamic)}
	}
	m.dynamic++
	d := &durableState{
		id: dynamicBit | m.dynamic, store: s, name: c.Name, track: &m.durableTrack,
		options: options, matcher: matcher, dynamic: true, template: c.Template,
	}
	m.link(d)
	d.touch()
	return Result{Durable: d.id, Created: true}
}

// durableKind keeps numbers that are too large from wrapping into known ones.
func durableKind(k uint32) durable.Kind {
	if k > 255 {
		return 0
	}
	return durable.Kind(k)
}

// linkable answers somebody who wants to create d, which exists. Whoever names
// no matcher takes it as it is.
func (d *durableState) linkable(want durable.Options, named bool) Result {
	switch {
	case d.options.Kind != want.Kind:
		return Result{Code: KindMismatch, Durable: d.id, Detail: fmt.Sprintf("durable %q is %v, not %v", d.name, d.options.Kind, want.Kind)}
	case named && d.options.Matcher != want.Matcher:
		return Result{Code: MatcherMismatch, Durable: d.id, Detail: fmt.Sprintf("durable %q has matcher %q, not %q", d.name, d.options.Matcher, want.Matcher)}
	}
	return Result{Durable: d.id}
}

// deleteDurable applies a DeleteDurable.
func (m *Machine) deleteDurable(id uint64) (Result, error) {
	d := m.byID[id]
	switch {
	case d == nil:
		return noDurable(id), nil
	case !d.dynamic:
		return Result{Code: StaticDurable, Durable: id, Detail: fmt.Sprintf("durable %q is part of the realm definition", d.name)}, nil
	case m.suspended:
		return isSuspended("nothing is deleted"), nil
	}
	return Result{Durable: id}, m.dropDurable(d)
}

// dropDurable deletes d and what is pending in it.
func (m *Machine) dropDurable(d *durableState) error {
	if _, err := m.release(d, 0, ^message.ID(0)); err != nil {
		return err
	}
	m.dropPages(d)
	m.unlink(d)
	return nil
}

// attachTo applies an Attach: the newest wins.
func (m *Machine) attachTo(c *statepb.Attach) Result {
	d := m.byID[c.Durable]
	switch {
	case d == nil:
		return noDurable(c.Durable)
	case d.options.Kind != durable.KindStandard:
		return Result{Code: KindMismatch, Durable: d.id, Detail: fmt.Sprintf("durable %q is %v: nobody attaches to it alone", d.name, d.options.Kind)}
	case d.attach.Number != 0 && d.attach.Process == c.Process && d.attach.Nonce == c.Nonce:
		return Result{Durable: d.id, Attach: d.attach.Number}
	case m.suspended:
		return isSuspended("nobody attaches")
	}
	d.touch()
	d.number++
	d.attach = Attachment{Number: d.number, Process: c.Process, Nonce: c.Nonce}
	m.events.attach(d)
	return Result{Durable: d.id, Attach: d.number}
}

// detach applies a Detach.
func (m *Machine) detach(c *statepb.Detach) Result {
	d := m.byID[c.Durable]
	switch {
	case d == nil:
		return noDurable(c.Durable)
	case d.attach.Number != c.Attach || c.Attach == 0:
		return Result{Code: Detached, Durable: d.id, Attach: d.attach.Number, Detail: fmt.Sprintf("attachment %d of durable %q is not the current one", c.Attach, d.name)}
	}
	d.touch()
	d.attach = Attachment{}
	m.events.attach(d)
	return Result{Durable: d.id}
}

// checksum applies a Checksum. The hash is of the state before it.
func (m *Machine) checksum(c *statepb.Checksum) Result {
	before := m.checked
	m.touchMeta() // commands before this one may have changed it
	m.checked = checkpoint{index: m.applied, hash: m.Hash()}
	r := Result{Last: m.checked.hash}
	if c.Index != 0 && c.Index == before.index && c.Hash != before.hash {
		r.Code = Diverged
		r.Detail = fmt.Sprintf("state at entry %d hashed to %016x here, to %016x at the leader", c.Index, before.hash, c.Hash)
	}
	return r
}
