package store

import (
	"runtime"
	"testing"
	"weak"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A machine that waits for the next entry does not keep the memory of the last,
// which may be 32 MiB, whether there are matchers or not.
func TestEntriesAreLetGo(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"), &statepb.Durable{Id: 11, Name: "seven", Kind: 2, Matcher: `{"k":"7"}`})
	publish := func() weak.Pointer[byte] {
		command := AppendPublish(nil, 1, x, 1, 1, newBatch(t, 1, "7", "8"))
		r.want(OK, command)
		return weak.Make(&command[0])
	}
	last := publish()
	runtime.GC()
	if last.Value() != nil {
		t.Error("the last entry is kept")
	}
	runtime.KeepAlive(r)
}
