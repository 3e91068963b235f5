package realm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Action is what a change does.
type Action string

const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Change is one difference between two definitions.
type Change struct {
	Path     string // by names, such as clusters[main].stores[flights]
	Action   Action
	Detail   string // for people: what becomes what
	Destroys bool   // stored messages are deleted
}

func (c Change) String() string {
	s := string(c.Action) + " " + c.Path
	if c.Detail != "" {
		s += ": " + c.Detail
	}
	if c.Destroys {
		s += " (deletes stored messages)"
	}
	return s
}

// Diff says what going from old to new does, in the order of new and with what
// is deleted after what stays. old may be nil: there was nothing. Whether it is
// allowed says [CheckChange].
func Diff(old, new *Realm) []Change {
	if old == nil {
		old = &Realm{}
	}
	var d differ
	if old.Name != new.Name {
		d.set("realm", old.Name, new.Name)
		action := Update
		if old.Name == "" {
			action = Create
		}
		d.flush("realm", action)
	}
	pairs(old.Clusters, new.Clusters, func(c Cluster) string { return c.Name }, d.cluster)
	pairs(old.Endpoints, new.Endpoints, func(e Endpoint) string { return e.Name }, d.endpoint)
	return d.changes
}

// differ gathers changes, and the details of the one in hand.
type differ struct {
	changes []Change
	details []string
}

// set notes a field that differs.
func (d *differ) set(key string, from, to any) {
	if from != to {
		d.details = append(d.details, fmt.Sprintf("%s: %s -> %s", key, orNone(from), orNone(to)))
	}
}

func orNone(v any) string { return cmp.Or(fmt.Sprint(v), "none") }

// flush turns what was noted into one change.
func (d *differ) flush(path string, a Action) {
	if len(d.details) > 0 {
		d.changes = append(d.changes, Change{Path: path, Action: a, Detail: oneLine(strings.Join(d.details, ", "))})
		d.details = nil
	}
}

func (d *differ) add(path string, a Action, destroys bool, format string, args ...any) {
	d.changes = append(d.changes, Change{Path: path, Action: a, Detail: oneLine(fmt.Sprintf(format, args...)), Destroys: destroys})
}

// pairs calls f for each name: first those of new in its order, then those only
// in old in theirs. A side that lacks the name is nil.
func pairs[T any](old, new []T, name func(T) string, f func(old, new *T)) {
	before := make(map[string]*T, len(old))
	for i := range old {
		before[name(old[i])] = &old[i]
	}
	stays := make(map[string]bool, len(new))
	for i := range new {
		n := name(new[i])
		stays[n] = true
		f(before[n], &new[i])
	}
	for i := range old {
		if !stays[name(old[i])] {
			f(&old[i], nil)
		}
	}
}

func (d *differ) cluster(old, new *Cluster) {
	switch {
	case old == nil:
		d.add(clusterPath(new.Name), Create, false, "%s, services %s", new.Durability, hosts(new.Services))
		old = &Cluster{Name: new.Name}
	case new == nil:
		d.add(clusterPath(old.Name), Delete, len(old.Stores) > 0, "its %d stores go with it", len(old.Stores))
		new = &Cluster{Name: old.Name}
	default:
		d.set("durability", old.Durability, new.Durability)
		d.set("profile", old.Tuning.Profile, new.Tuning.Profile)
		for i, value := range new.Tuning.durations() {
			d.set(tuningKeys[i], *old.Tuning.durations()[i], *value)
		}
		d.set("backup", old.Backup, new.Backup)
		d.flush(clusterPath(new.Name), Update)
		pairs(old.Services, new.Services, func(s Service) string { return s.Name }, func(o, n *Service) {
			d.service(clusterPath(new.Name), o, n)
		})
	}
	pairs(old.Stores, new.Stores, func(s Store) string { return s.Name }, func(o, n *Store) {
		d.store(clusterPath(new.Name), o, n)
	})
}

func clusterPath(name string) string { return byName("clusters", name) }

func byName(what, name string) string { return what + "[" + oneLine(name) + "]" }

func hosts(services []Service) string {
	out := make([]string, len(services))
	for i, s := range services {
		out[i] = s.Name + " on " + s.Server
	}
	return strings.Join(out, ", ")
}

func (d *differ) service(path string, old, new *Service) {
	switch {
	case old == nil:
		d.add(path+"."+byName("services", new.Name), Create, false, "on server %s", new.Server)
	case new == nil:
		d.add(path+"."+byName("services", old.Name), Delete, false, "on server %s", old.Server)
	default:
		d.set("server", old.Server, new.Server)
		d.set("weight", old.Weight, new.Weight)
		d.set("description", old.Description, new.Description)
		d.flush(path+"."+byName("services", new.Name), Update)
	}
}

func (d *differ) store(path string, old, new *Store) {
	switch {
	case old == nil:
		d.add(path+"."+byName("stores", new.Name), Create, false, "publisher_mode %s", new.PublisherMode)
		old = &Store{Name: new.Name}
	case new == nil:
		d.add(path+"."+byName("stores", old.Name), Delete, true, "its messages and durables go with it, also if another cluster gets a store of that name")
		new = &Store{Name: old.Name}
	default:
		d.set("publisher_mode", old.PublisherMode, new.PublisherMode)
		d.set("byte_limit", limit(old.ByteLimit, FormatSize), limit(new.ByteLimit, FormatSize))
		d.set("message_limit", limit(old.MessageLimit, decimal), limit(new.MessageLimit, decimal))
		d.set("max_message_size", FormatSize(old.MaxMessageSize), FormatSize(new.MaxMessageSize))
		d.set("dynamic_durable_limit", limit(old.DynamicDurableLimit, decimal), limit(new.DynamicDurableLimit, decimal))
		d.flush(path+"."+byName("stores", new.Name), Update)
	}
	path += "." + byName("stores", new.Name)
	pairs(old.Durables, new.Durables, func(x Durable) string { return x.Name }, func(o, n *Durable) {
		d.durable(path, renamedTo(o, old, new), o, n)
	})
	pairs(old.Templates, new.Templates, func(t Template) string { return t.Name }, func(o, n *Template) {
		d.template(path, o, n)
	})
}

// limit is the text of a number of which 0 means that there is no limit.
func limit(n int64, format func(int64) string) string {
	if n == 0 {
		return ""
	}
	return format(n)
}

func decimal(n int64) string { return fmt.Sprint(n) }

// renamedTo returns the new durable that a deleted one was probably renamed to.
func renamedTo(gone *Durable, old, new *Store) string {
	if gone == nil {
		return ""
	}
	for _, n := range new.Durables {
		if old.Durable(n.Name) == nil && n.Kind == gone.Kind && n.Matcher == gone.Matcher {
			return n.Name
		}
	}
	return ""
}

func (d *differ) durable(path, renamed string, old, new *Durable) {
	switch {
	case old == nil:
		d.add(path+"."+byName("durables", new.Name), Create, false, "%s, %s, from now on", new.Kind, matching(new.Matcher))
	case new == nil && renamed != "":
		d.add(path+"."+byName("durables", old.Name), Delete, true, "renaming a durable deletes its stored data: %q starts empty", renamed)
	case new == nil:
		d.add(path+"."+byName("durables", old.Name), Delete, true, "what it has not delivered is lost to its subscribers")
	default:
		d.set("type", old.Kind, new.Kind)
		d.set("matcher", old.Matcher, new.Matcher)
		d.set("prefetch", old.Prefetch, new.Prefetch)
		d.flush(path+"."+byName("durables", new.Name), Update)
	}
}

func matching(matcher string) string {
	if matcher == "" {
		return "all messages"
	}
	return "messages that match " + matcher
}

func (d *differ) template(path string, old, new *Template) {
	switch {
	case old == nil:
		d.add(path+"."+byName("templates", new.Name), Create, false, "%s", new.Kind)
	case new == nil:
		d.add(path+"."+byName("templates", old.Name), Delete, false, "durables made from it stay")
	default:
		d.set("type", old.Kind, new.Kind)
		d.set("prefetch", old.Prefetch, new.Prefetch)
		d.flush(path+"."+byName("templates", new.Name), Update)
	}
}

func (d *differ) endpoint(old, new *Endpoint) {
	switch {
	case old == nil:
		d.add(byName("endpoints", new.Name), Create, false, "store %s", new.Store)
	case new == nil:
		d.add(byName("endpoints", old.Name), Delete, false, "clients no longer find it")
	default:
		d.set("store", old.Store, new.Store)
		d.set("templates", list(old.Templates), list(new.Templates))
		d.set("default_durable", old.DefaultDurable, new.DefaultDurable)
		d.subscribers(old.Subscribers, new.Subscribers)
		d.flush(byName("endpoints", new.Name), Update)
	}
}

func (d *differ) subscribers(old, new map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(new)) {
		d.set("subscribers."+name, old[name], new[name])
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, stays := new[name]; !stays {
			d.set("subscribers."+name, old[name], "")
		}
	}
}
