package message

import (
	"errors"
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	tests := []struct {
		id      ID
		epoch   uint16
		counter uint64
		text    string
	}{
		{0, 0, 0, "0"},
		{MakeID(0, 1), 0, 1, "1"},
		{MakeID(0, MaxCounter), 0, MaxCounter, "281474976710655"},
		{MakeID(1, 0), 1, 0, "1:0"},
		{MakeID(2, 17), 2, 17, "2:17"},
		{MakeID(65535, MaxCounter), 65535, MaxCounter, "65535:281474976710655"},
	}
	prev := ID(0)
	for i, tc := range tests {
		if tc.id.Epoch() != tc.epoch || tc.id.Counter() != tc.counter || tc.id.String() != tc.text {
			t.Errorf("%d is epoch %d, counter %d, text %s", uint64(tc.id), tc.id.Epoch(), tc.id.Counter(), tc.id)
		}
		if got, err := ParseID(tc.text); err != nil || got != tc.id {
			t.Errorf("%s reads back as %v, %v", tc.text, got, err)
		}
		if i > 0 && tc.id <= prev {
			t.Errorf("%v is not above %v", tc.id, prev)
		}
		prev = tc.id
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", ":", "1:", ":1", "0:1", "01", "1:01", "01:1", "+1", "-1", " 1", "1 ", "1:2:3", "x", "0x1", "1_0",
		"281474976710656", "65536:1", "99999999999999999999999", strings.Repeat("1", 1<<20),
	} {
		if id, err := ParseID(s); !errors.Is(err, ErrID) {
			t.Errorf("%.40q: %v, error %v", s, id, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("%.40q: the error has %d bytes", s, len(err.Error()))
		}
	}
}

func TestMakeIDPanicsInsteadOfWrapping(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a counter of 49 bits was accepted")
		}
	}()
	MakeID(1, MaxCounter+1)
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "a_", "Größe", "a b", "1", strings.Repeat("n", 256), strings.Repeat("€", 85), "a\x00"} {
		if err := ValidName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]error{
		"": ErrName, "_": ErrName, "_a": ErrName, strings.Repeat("n", 257): ErrName, strings.Repeat("€", 86): ErrName,
		"a\xff": ErrUTF8, "\xed\xa0\x80": ErrUTF8,
	} {
		if err := ValidName(name); !errors.Is(err, want) {
			t.Errorf("%.40q: error %v, want %v", name, err, want)
		}
	}
}
