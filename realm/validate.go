package realm

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/message"
)

// checker finds what is wrong with the meaning of a realm whose shape is right.
type checker struct{ *collector }

func (c checker) realm(r *Realm) {
	c.name("realm", r.Name, "realm")
	clusters := newNames("cluster", "the realm")
	stores := newNames("store", "the realm")
	for i := range r.Clusters {
		path := fmt.Sprintf("clusters[%d]", i)
		cluster := &r.Clusters[i]
		c.unique(clusters, join(path, "name"), cluster.Name)
		c.cluster(path, cluster, stores)
	}
	endpoints := newNames("endpoint", "the realm")
	for i := range r.Endpoints {
		path := fmt.Sprintf("endpoints[%d]", i)
		c.unique(endpoints, join(path, "name"), r.Endpoints[i].Name)
		c.endpoint(path, r, &r.Endpoints[i])
	}
}

// name checks a name that must be there.
func (c checker) name(path, name, what string) bool {
	if name == "" {
		if c.source.has(path) {
			c.errorf(path, "is empty; give the %s a name of 1 to %d bytes", what, message.MaxNameLen)
		} else {
			c.errorf(path, "is missing; give the %s a name", what)
		}
		return false
	}
	err := message.ValidName(name)
	if err == nil {
		return true
	}
	switch {
	case len(name) > message.MaxNameLen:
		c.errorf(path, "has %d bytes; use at most %d", len(name), message.MaxNameLen)
	case name[0] == '_':
		c.errorf(path, "%q begins with _, which is reserved; begin with another character", name)
	default:
		c.errorf(path, "%q is not a valid name: %v; use 1 to %d bytes of UTF-8", name, err, message.MaxNameLen)
	}
	return false
}

// names remembers where each name was given.
type names struct {
	what, scope string
	first       map[string]string
}

func newNames(what, scope string) *names {
	return &names{what: what, scope: scope, first: map[string]string{}}
}

// unique checks a name and that it is the only one in its scope.
func (c checker) unique(n *names, path, name string) {
	if !c.name(path, name, n.what) {
		return
	}
	if first, taken := n.first[name]; taken {
		c.errorf(path, "%s name %q is taken by %s; %s names are unique in %s, choose another", n.what, name, first, n.what, n.scope)
		return
	}
	n.first[name] = path
}

func (c checker) cluster(path string, cluster *Cluster, stores *names) {
	if !known(uint8(cluster.Durability), durabilityWords) {
		c.errorf(join(path, "durability"), "%s; choose one of %s", cluster.Durability, list(durabilityWords))
	}
	c.tuning(path, cluster.Tuning)
	c.backup(join(path, "backup"), cluster.Backup)
	c.services(path, cluster.Services)
	for i := range cluster.Stores {
		at := fmt.Sprintf("%s.stores[%d]", path, i)
		c.unique(stores, join(at, "name"), cluster.Stores[i].Name)
		c.store(at, &cluster.Stores[i])
	}
}

func (c checker) backup(path string, b Backup) {
	at := join(path, "every")
	switch {
	case b == Backup{} || b.Every == 0 && c.reported[at]:
	case b.Every == 0:
		c.errorf(at, "is missing; say how often, such as 1h, or remove backup")
	case b.Every < MinBackupEvery || b.Every > MaxBackupEvery:
		c.errorf(at, "is %s; use %s to %s", b.Every, MinBackupEvery, MaxBackupEvery)
	}
	if b.Every != 0 {
		c.within(join(path, "keep"), int64(b.Keep), 1, MaxBackupKeep)
	}
}

func (c checker) services(path string, services []Service) {
	path = join(path, "services")
	names, hosts := newNames("service", "a cluster"), map[string]string{}
	for i, s := range services {
		at := fmt.Sprintf("%s[%d]", path, i)
		c.unique(names, join(at, "name"), s.Name)
		if c.name(join(at, "server"), s.Server, "server") {
			if first, twice := hosts[s.Server]; twice {
				c.warnf(join(at, "server"), "server %q hosts %s of this cluster too; if it fails both are gone, use another server", s.Server, first)
			} else {
				hosts[s.Server] = at
			}
		}
		c.within(join(at, "weight"), int64(s.Weight), 1, MaxWeight)
		if len(s.Description) > MaxDescription {
			c.errorf(join(at, "description"), "has %d bytes; use at most %d", len(s.Description), MaxDescription)
		}
	}
	switch n := len(services); {
	case c.reported[path]:
	case n == 0:
		c.errorf(path, "there are none; list 1, 3, 5 or 7 services")
	case n > MaxServices:
		c.errorf(path, "there are %d; use at most %d, more make each write slower and survive hardly more", n, MaxServices)
	case n%2 == 0:
		c.errorf(path, "there are %d, an even number; it survives no more failures than %d and needs one more for a majority, use %d or %d", n, n-1, n-1, n+1)
	}
}

func (c checker) tuning(path string, t Tuning) {
	if !known(uint8(t.Profile), profileWords) {
		c.errorf(join(path, "profile"), "%s; choose one of %s", t.Profile, list(profileWords))
	}
	bounds := []struct{ low, high time.Duration }{
		{time.Millisecond, time.Second},           // tick
		{time.Millisecond, 10 * time.Second},      // heartbeat
		{10 * time.Millisecond, time.Minute},      // election_timeout
		{10 * time.Millisecond, 10 * time.Minute}, // client_heartbeat
		{20 * time.Millisecond, time.Hour},        // client_timeout
		{time.Millisecond, time.Minute},           // sync_interval
		{time.Millisecond, 10 * time.Minute},      // suspend_grace
	}
	sane := true
	for i, value := range t.durations() {
		if *value < bounds[i].low || *value > bounds[i].high {
			c.errorf(join(path, tuningKeys[i]), "is %s; use %s to %s", *value, bounds[i].low, bounds[i].high)
			sane = false
		}
	}
	if !sane {
		return
	}
	c.atLeast(path, "heartbeat", t.Heartbeat, "tick", t.Tick, 1, "replicas see no shorter time")
	c.atLeast(path, "election_timeout", t.ElectionTimeout, "heartbeat", t.Heartbeat, 3, "else one late heartbeat costs the leader its place")
	c.atLeast(path, "client_timeout", t.ClientTimeout, "client_heartbeat", t.ClientHeartbeat, 2, "else one late heartbeat ends a session")
}

// atLeast checks that one duration is some times another.
func (c checker) atLeast(path, key string, value time.Duration, other string, base time.Duration, times int, why string) {
	low := time.Duration(times) * base
	if value >= low {
		return
	}
	at := join(path, key)
	if !c.source.has(at) && c.source.has(join(path, other)) {
		at = join(path, other) // the one that the document gives
	}
	factor := ""
	if times > 1 {
		factor = fmt.Sprintf("%d times ", times)
	}
	c.errorf(at, "%s is %s, below %s%s (%s): %s; use %s of at least %s", key, value, factor, other, base, why, key, low)
}

func (c checker) within(path string, value, low, high int64) {
	if value < low || value > high {
		c.errorf(path, "is %d; write a whole number from %d to %d", value, low, high)
	}
}
