package portable

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/message"
)

// MaxRecord limits the bytes of a line or record: the largest message, where each
// byte needs six (\u0000), and its names.
const MaxRecord = 6*message.HardMaxMessageSize + 128<<20

// Format is a way to write messages as text.
type Format string

// The formats.
const (
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
	Objects   Format = "objects" // only read
)

// Record is a message and where it was.
type Record struct {
	Store    string
	Durables []string // that have not acknowledged it
	ID       message.ID
	Stamp    time.Time
	Count    uint64 // deliveries that ended without that
	Message  *message.Message
}

// Error says where text is wrong.
type Error struct {
	Line   int // from 1 on
	Column int // in bytes, from 1 on; 0 if it is the line as a whole
	Err    error
}

// Error says line, column and reason.
func (e *Error) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("line %d: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Columns of CSV, in the order in which they are written.
const (
	columnStore     = "_store"
	columnDurables  = "_durables"
	columnID        = "_id"
	columnStamp     = "_stamp"
	columnCount     = "_count"
	columnKey       = "_key"
	columnTTL       = "_ttl"
	columnDeliverAt = "_deliver_at"
	columnFields    = "_fields"
	columnHeaders   = "_headers"
	columnBody      = "_body"
	columnBase64    = "_body_base64"
)

var columns = []string{
	columnStore, columnDurables, columnID, columnStamp, columnCount, columnKey, columnTTL, columnDeliverAt,
	columnFields, columnHeaders, columnBody, columnBase64,
}
