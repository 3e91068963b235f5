//go:build !linux

package child

import "syscall"

// attributes are the system's: a child notices the end of its standard input.
func attributes() *syscall.SysProcAttr { return nil }
