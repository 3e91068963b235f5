package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// TestHeapRoom looks at how far the heap may grow before it is collected.
func TestHeapRoom(t *testing.T) {
	goal := func() uint64 {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	t.Cleanup(func() { heapRoom = nil })
	before := goal()
	for _, v := range []string{"GOGC=50", "GOMEMLIMIT=1GiB"} {
		if leaveHeapRoom([]string{"PATH=/bin", v}); heapRoom != nil {
			t.Errorf("room is left with %s", v)
		}
	}
	leaveHeapRoom([]string{"PATH=/bin", "GOGC="})
	if after := goal(); after < before+heapRoomBytes {
		t.Errorf("the heap may grow to %d bytes, before to %d", after, before)
	}
}
