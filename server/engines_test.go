package server

import (
	"errors"
	"testing"

	"github.com/perdure/perdure/realm"
)

// Two goroutines make copies in one engine. When one fails, what is known of the
// engine is forgotten, and the other may come to remember its own just then.
func TestACopyIsMadeWhileAnotherFails(t *testing.T) {
	t.Parallel()
	e := &engines{there: map[realm.Durability]map[uint64]bool{realm.Sync: {1: true}}}
	e.made(realm.Sync, 2, nil)
	if there := e.there[realm.Sync]; !there[1] || !there[2] {
		t.Errorf("there are %v, want copies 1 and 2", there)
	}
	e.made(realm.Sync, 3, errors.New("no space left"))
	e.made(realm.Sync, 4, nil)
	if there := e.there[realm.Sync]; there != nil {
		t.Errorf("there are %v, though the engine is to be asked again", there)
	}
}
