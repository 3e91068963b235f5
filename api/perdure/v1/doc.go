// Package perdurepb is the public contract of Perdure: what clients of any
// language speak with a server, and the reasons of its errors.
//
// It is generated from perdure.proto, which explains every message and call.
// Old clients are served for years, so fields are added and never changed.
// Batches travel inside these messages as plain bytes; package message writes
// and reads them.
package perdurepb
