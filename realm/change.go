package realm

import "fmt"

// CheckChange returns what of going from old to new is not possible although
// new is valid by itself. old may be nil. Places are those of new's document.
func CheckChange(old, new *Realm) []Problem {
	if old == nil {
		return nil
	}
	c := newCollector(new.source)
	for i := range new.Clusters {
		n := &new.Clusters[i]
		o := old.Cluster(n.Name)
		if o == nil {
			continue
		}
		path := fmt.Sprintf("clusters[%d]", i)
		checkMembers(c, path, o, n)
		for j := range n.Stores {
			if s := o.Store(n.Stores[j].Name); s != nil {
				checkStore(c, fmt.Sprintf("%s.stores[%d]", path, j), s, &n.Stores[j])
			}
		}
	}
	return c.sorted()
}

// checkMembers refuses what would need to move or convert replicas.
func checkMembers(c *collector, path string, old, new *Cluster) {
	if old.Durability != new.Durability {
		c.errorf(join(path, "durability"), "cannot change from %s to %s, the replicas keep their logs in other ways; make a new cluster", old.Durability, new.Durability)
	}
	const advice = "membership changes come with a later version; keep services and servers as they are, or make a new cluster"
	pairs(old.Services, new.Services, func(s Service) string { return s.Name }, func(o, n *Service) {
		if n == nil {
			c.errorOnce(path+" without "+o.Name, c.source.of(join(path, "services")), join(path, "services"),
				"service %q is gone from cluster %q; %s", o.Name, new.Name, advice)
			return
		}
		at := fmt.Sprintf("%s.services[%d]", path, indexOf(new.Services, n.Name))
		switch {
		case o == nil:
			c.errorf(at, "service %q is new in cluster %q; %s", n.Name, new.Name, advice)
		case o.Server != n.Server:
			c.errorf(join(at, "server"), "service %q cannot move from server %q to %q; %s", n.Name, o.Server, n.Server, advice)
		}
	})
}

func indexOf(services []Service, name string) int {
	for i := range services {
		if services[i].Name == name {
			return i
		}
	}
	return -1
}

// checkStore refuses what would change the meaning of stored interest.
func checkStore(c *collector, path string, old, new *Store) {
	for i, n := range new.Durables {
		o, at := old.Durable(n.Name), fmt.Sprintf("%s.durables[%d]", path, i)
		switch {
		case o == nil:
		case o.Kind != n.Kind:
			c.errorf(join(at, "type"), "durable %q is %s and cannot become %s; define one under another name", n.Name, o.Kind, n.Kind)
		case o.Matcher != n.Matcher:
			c.errorf(join(at, "matcher"), "durable %q keeps %s, which cannot change; define one under another name", n.Name, matching(o.Matcher))
		}
	}
	for i, n := range new.Templates {
		for _, o := range old.Templates {
			if o.Name == n.Name && o.Kind != n.Kind {
				c.errorf(join(fmt.Sprintf("%s.templates[%d]", path, i), "type"), "template %q is %s and durables made from it cannot become %s; define one under another name", n.Name, o.Kind, n.Kind)
			}
		}
	}
}
