package main

import (
	"slices"
	"strings"
)

// heapRoomBytes is about how much garbage a server may make before it is collected,
// however little it keeps.
const heapRoomBytes = 32 << 20

// heapRoom is never touched, so it takes no memory: the collector counts it as kept,
// and waits until as much has come on top of it.
var heapRoom []byte

// leaveHeapRoom lets a server collect its garbage less often. What it keeps is small
// where little is pending, so it would collect every 4 MiB, a few times a second
// under the load of one publisher: each time some messages wait for a millisecond,
// and these were the slowest hundredth. Who sets GOGC or GOMEMLIMIT has decided.
func leaveHeapRoom(environ []string) {
	decided := func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		return value != "" && (name == "GOGC" || name == "GOMEMLIMIT")
	}
	if heapRoom == nil && !slices.ContainsFunc(environ, decided) {
		heapRoom = make([]byte, heapRoomBytes)
	}
}
