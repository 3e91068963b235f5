//go:build !linux

package wholefile

import "os"

// lock does nothing here: who writes one file at a time needs none.
func lock(*os.File) error { return nil }
