package server

import (
	"encoding/json"
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

// A core server that does not lead says of every command that nothing happened,
// so that whoever sent them may send them elsewhere.
func TestCommandsForAnotherLeader(t *testing.T) {
	t.Parallel()
	n := &realmNode{server: &Server{config: Config{Name: "s2"}}}
	call := func(commands int) ([]answered, error) {
		request, err := json.Marshal(make([][]byte, commands))
		if err != nil {
			t.Fatal(err)
		}
		body, err := n.onCommands(t.Context(), request)
		if err != nil {
			return nil, err
		}
		var answers []answered
		return answers, json.Unmarshal(body, &answers)
	}
	answers, err := call(2)
	if err != nil || len(answers) != 2 || answers[0].Definite == "" || answers[1].Definite == "" {
		t.Errorf("answers %+v, %v", answers, err)
	}
	if _, err := call(commandsAtOnce + 1); err == nil {
		t.Errorf("%d commands were taken", commandsAtOnce+1)
	}
}
