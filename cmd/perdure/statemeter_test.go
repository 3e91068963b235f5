package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/client"
)

// A rate is shown when it means something: neither of the first instant of a load,
// nor of what was done before.
func TestStateMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		m := (&program{stderr: &out}).newStateMeter("checked")
		tell := m.of("")
		for _, now := range []client.StateProgress{
			{Bytes: 1 << 20},
			{Bytes: 1 << 20, Loading: true},
			{Bytes: 3 << 20, Loading: true},
			{Bytes: 1 << 20, Loading: true}, // another server
			{Bytes: 2 << 20, Loading: true},
		} {
			time.Sleep(time.Second)
			tell(now)
		}
		m.end()
		want := "checked 1.0 MiB, 1.0 MiB/s\nloaded 1.0 MiB\nloaded 3.0 MiB, 2.0 MiB/s\nloaded 1.0 MiB\nloaded 2.0 MiB, 1.0 MiB/s\n"
		if out.String() != want {
			t.Errorf("shown %q, want %q", out.String(), want)
		}
	})
}
