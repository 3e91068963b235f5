package catalog

import (
	"fmt"

	"github.com/perdure/perdure/realm"
)

// Code says how a command ended.
type Code uint8

const (
	OK          Code = iota + 1
	Conflict         // the expected revision is not the newest; nothing changed
	Invalid          // the document has Problems; nothing changed
	Refused          // Detail says why; nothing changed
	Undecodable      // the bytes are no command; counted, else nothing changed
)

var codeWords = [...]string{"unknown", "ok", "conflict", "invalid", "refused", "undecodable"}

func (c Code) String() string {
	if int(c) >= len(codeWords) {
		return codeWords[0]
	}
	return codeWords[c]
}

// Result is what a command came to, equal on every replica.
type Result struct {
	Code     Code
	Revision uint64          // the newest, after the command
	Changes  []realm.Change  // of an Apply
	Problems []realm.Problem // of an Apply; with OK these are warnings
	ServerID uint64          // of a Register
	Detail   string          // if not OK: what happened and what to do
}

func (r Result) String() string {
	s := fmt.Sprintf("%s at revision %d", r.Code, r.Revision)
	if r.Detail != "" {
		s += ": " + r.Detail
	}
	return s
}
