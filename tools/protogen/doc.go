// Command protogen turns the .proto files under api/ into Go code, with
// nothing installed but Go.
//
// It compiles the files in process and hands them to the two plugins that
// tools/go.mod pins, so that everybody gets the same bytes. Run it in tools/:
//
//	go run ./protogen          writes what differs, removes what is stale
//	go run ./protogen -check   changes nothing; ends 1 when anything differs
//
// Output lies beside its source. Because no protoc takes part, the generated
// headers say "protoc (unknown)".
//
// It does not check that a change keeps old clients, peers or files readable.
package main
