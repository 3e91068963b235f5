// Package wholefile writes files that are there as a whole or not at all: what is
// written has another name until it is complete and survives a power loss. What
// had the name before is kept beside it.
//
// Everything happens inside an [os.Root]: no name, and no link, leads out of it.
package wholefile
