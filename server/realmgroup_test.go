package server

import (
	"testing"

	"github.com/perdure/perdure/realm/catalog"
)

// TestViewsNeverGoBack replays what a realm group shows while it starts again:
// views older than the cached one, under which no cluster existed.
func TestViewsNeverGoBack(t *testing.T) {
	service := func(claimed bool) []catalog.ClusterView {
		return []catalog.ClusterView{{ID: 16, Services: []catalog.ServiceView{{Claimed: claimed}}}}
	}
	servers := make([]catalog.Server, 2)
	views := []*catalog.View{ // ascending
		{},
		{Founded: true},
		{Founded: true, Servers: servers[:1]},
		{Founded: true, Servers: servers, Revision: 1, Clusters: service(false)},
		{Founded: true, Servers: servers, Revision: 1, Clusters: service(true)},
		{Founded: true, Servers: servers, Revision: 2},
	}
	for have := range views {
		for next := range views {
			n := &realmNode{}
			n.mu.change = make(chan struct{})
			n.mu.view = views[have]
			// Before a realm is founded nothing can be lost.
			want := next >= have
			if got := n.advance(views[next]); got != want {
				t.Errorf("from view %d to %d: %v, want %v", have, next, got, want)
			}
			if now := n.view(); now != views[max(have, next)] {
				t.Errorf("from view %d to %d: view %+v", have, next, now)
			}
		}
	}
}
