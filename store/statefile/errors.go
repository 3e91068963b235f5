package statefile

import "fmt"

// Code says what is wrong with a file. Codes are stable: programs may compare
// them, with [errors.Is] too.
type Code string

const (
	// Truncated means that the file ends before its trailer does.
	Truncated Code = "TRUNCATED"
	// Altered means that the file is not what was written: a checksum, a length
	// or an order is wrong.
	Altered Code = "ALTERED"
	// Foreign means that it is no state file.
	Foreign Code = "FOREIGN"
	// Newer means that a later version wrote it, and this one would not
	// understand all of it.
	Newer Code = "NEWER"
)

// Error implements error, so that a Code can be compared with [errors.Is].
func (c Code) Error() string { return "statefile: " + string(c) }

// Error says where a file is not as it should be, and why.
type Error struct {
	Code     Code
	Position int64 // the byte of the file at which what is wrong begins
	Section  Section
	Reason   string
}

// Error implements error.
func (e *Error) Error() string {
	what := map[Code]string{Truncated: "is truncated", Altered: "is altered", Foreign: "is no state file", Newer: "is of a newer version"}[e.Code]
	return fmt.Sprintf("state file %s: byte %d, %v: %s", what, e.Position, e.Section, e.Reason)
}

// Unwrap returns the code.
func (e *Error) Unwrap() error { return e.Code }
