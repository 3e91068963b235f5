package harness

import (
	"fmt"
	"strings"
)

// Cluster describes a cluster for a definition: a store of the name of the
// cluster, reached by an endpoint of that name.
type Cluster struct {
	Name       string
	Durability string   // sync if empty
	Servers    []string // where its services are; s1, s2 and s3 if nil
	Weight     int      // of the first service; the others weigh as much if 0
	Stores     []string // more stores, with endpoints of their names
}

// The durables that each store has, and the name by which a subscriber is mapped
// to Shared.
const (
	Standard = "audit"
	Shared   = "work"
	Worker   = "worker"
)

// Definition writes a realm of some clusters.
func Definition(clusters ...Cluster) string {
	var b, endpoints strings.Builder
	b.WriteString("realm: tests\nclusters:\n")
	endpoints.WriteString("endpoints:\n")
	for _, c := range clusters {
		if c.Durability == "" {
			c.Durability = "sync"
		}
		if c.Servers == nil {
			c.Servers = []string{"s1", "s2", "s3"}
		}
		fmt.Fprintf(&b, "  - name: %s\n    durability: %s\n    services:\n", c.Name, c.Durability)
		for i, server := range c.Servers {
			weight := ""
			if i > 0 && c.Weight > 0 {
				weight = ", weight: 1"
			} else if c.Weight > 0 {
				weight = fmt.Sprintf(", weight: %d", c.Weight)
			}
			fmt.Fprintf(&b, "      - {name: %s-%d, server: %s%s}\n", c.Name, i+1, server, weight)
		}
		b.WriteString("    stores:\n")
		for _, store := range append([]string{c.Name}, c.Stores...) {
			fmt.Fprintf(&b, "      - name: %s\n        durables:\n          - {name: %s, type: standard}\n          - {name: %s, type: shared}\n",
				store, Standard, Shared)
			fmt.Fprintf(&endpoints, "  - {name: %s, store: %s, templates: [ftl.standard.template, ftl.shared.template], default_durable: %s, subscribers: {%s: %s}}\n",
				store, store, Standard, Worker, Shared)
		}
	}
	return b.String() + endpoints.String()
}
