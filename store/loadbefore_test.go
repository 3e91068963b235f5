package store

import (
	"bytes"
	"testing"
)

// The load before the last one, and whether the cluster was resumed since, are part of
// the state; pages of versions that did not know them are still read.
func TestLoadBefore(t *testing.T) {
	for _, x := range []loads{
		{}, {done: 7}, {done: 7, before: 6}, {done: 7, resumed: true}, {done: 7, before: 6, resumed: true},
		{done: 7, before: 6, resumed: true, staged: &staging{load: 8, next: 9, replace: true, hash: "h", targets: []target{{"a", 3}}}},
		{staged: &staging{load: 8, hash: "h", targets: []target{{"a", 3}}}},
	} {
		page, mark := x.AppendPage(nil, 0)
		if mark == nil {
			continue
		}
		var back loads
		if err := back.decode(page); err != nil {
			t.Fatalf("%+v: %v", x, err)
		}
		again, _ := back.AppendPage(nil, 0)
		if !bytes.Equal(again, page) || back.done != x.done || back.before != x.before || back.resumed != x.resumed || (back.staged == nil) != (x.staged == nil) {
			t.Errorf("%+v comes back as %+v", x, back)
		}
	}
	for _, old := range [][]byte{{7}, {7, 8, 9, 1, 1, 'h', 1, 1, 'a', 3}} {
		var l loads
		if err := l.decode(old); err != nil || l.done != 7 || l.before != 0 || l.resumed {
			t.Errorf("%v: %+v (%v)", old, l, err)
		}
		if again, _ := l.AppendPage(nil, 0); !bytes.Equal(again, old) {
			t.Errorf("%v is written as %v", old, again)
		}
	}
	var l loads
	if err := l.decode([]byte{7, 0, 0, 0}); err == nil {
		t.Error("nothing is known, and written")
	}
}
