// Package portable is messages as text, for export and import: JSON Lines and
// CSV. What a [Writer] wrote, a [Reader] reads as equal messages, whatever is in
// them. It knows bytes, not files.
//
// # JSON Lines
//
// An object a line: store, durables, id, stamp and count say where the message
// was, and are not read; what [message.Message.AppendMembers] writes is the
// message.
//
// # CSV
//
// As of RFC 4180, UTF-8, with \n at the end of a line. The first line names the
// columns. A Writer writes these, in this order:
//
//	_store        name
//	_durables     JSON array of names
//	_id           number
//	_stamp        RFC 3339
//	_count        number
//	_key          text
//	_ttl          such as 1h30m
//	_deliver_at   RFC 3339
//	_fields       JSON object, see [message.Message.AppendTyped]
//	_headers      JSON object of texts
//	_body         text, where the body is UTF-8
//	_body_base64  the body where it is not
//
// A cell that says nothing is empty. A Reader takes the columns in any order, and
// does without those that are not there; the first five it does not read. Every
// other column is a field, whose name does not begin with '_': a string, or what
// the name says behind a colon, as in delay:int64; kinds are string, int64,
// float64, bool, bytes (base64) and time (RFC 3339). An empty cell is no field.
//
// # Objects
//
// Objects are only read: JSON Lines where the members of an object are the fields
// of a message, as of [message.FromJSON].
//
// A Reader believes nothing: no line, or record of CSV, is longer than
// [MaxRecord], and an [Error] says at which line and column something is wrong,
// and why. Blank lines are nothing.
package portable
