package bench

import (
	"fmt"
	"strings"
)

// Names in the realm of a benchmark.
const (
	DefaultEndpoint = "bench"  // a store that one standard durable keeps
	SharedEndpoint  = "shared" // a store that one shared durable keeps

	standardDurable = "keep"
	sharedDurable   = "work"

	// prefetch is what one subscriber may hold unacknowledged: more than is under
	// way between a server and a client on one machine.
	prefetch = 65536
	// matchedField is what matchers look at.
	matchedField = "key"
)

// Realm is what the servers of a benchmark hold: clusters with a member on each
// server. The first has two stores and endpoints, "bench" and "shared"; others
// have one, "bench-2" and so on.
type Realm struct {
	Durability string // memory, async or sync
	Servers    int    // s1, s2 and so on
	Clusters   int    // at least one
	Durables   int    // standard ones of store bench: keep, keep-2 and so on; at least one
	Matchers   int    // durables instead: match-0 and so on want the messages with key 0 and so on
	Fast       bool   // the profile that elects soon
}

// Document returns the realm as a definition that servers take.
func (r Realm) Document() []byte {
	var b strings.Builder
	b.WriteString("realm: bench\nclusters:\n")
	for i := range max(1, r.Clusters) {
		r.cluster(&b, i)
	}
	b.WriteString("endpoints:\n")
	for i := range max(1, r.Clusters) {
		name := numbered(DefaultEndpoint, i)
		if r.Matchers > 0 && i == 0 {
			fmt.Fprintf(&b, "  - {name: %s, store: %s}\n", name, name)
			continue
		}
		fmt.Fprintf(&b, "  - {name: %s, store: %s, default_durable: %s}\n", name, name, standardDurable)
	}
	fmt.Fprintf(&b, "  - {name: %s, store: %s, default_durable: %s}\n", SharedEndpoint, SharedEndpoint, sharedDurable)
	return []byte(b.String())
}

func (r Realm) cluster(b *strings.Builder, i int) {
	name := numbered(DefaultEndpoint, i)
	fmt.Fprintf(b, "  - name: %s\n    durability: %s\n", name, r.Durability)
	if r.Fast {
		b.WriteString("    profile: fast\n")
	}
	b.WriteString("    services:\n")
	for s := range r.Servers {
		fmt.Fprintf(b, "      - {name: %s-s%d, server: s%d}\n", name, s+1, s+1)
	}
	fmt.Fprintf(b, "    stores:\n      - name: %s\n        durables:\n", name)
	if i > 0 {
		fmt.Fprintf(b, "          - {name: %s, type: standard, prefetch: %d}\n", standardDurable, prefetch)
		return
	}
	for k := range r.Matchers {
		fmt.Fprintf(b, "          - {name: match-%d, type: standard, prefetch: %d, matcher: '{\"%s\":%d}'}\n", k, prefetch, matchedField, k)
	}
	if r.Matchers == 0 {
		for k := range max(1, r.Durables) {
			fmt.Fprintf(b, "          - {name: %s, type: standard, prefetch: %d}\n", numbered(standardDurable, k), prefetch)
		}
	}
	fmt.Fprintf(b, "      - name: %s\n        durables:\n          - {name: %s, type: shared, prefetch: %d}\n",
		SharedEndpoint, sharedDurable, prefetch)
}

// numbered names the thing of a kind that has index i: x, x-2, x-3.
func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}
