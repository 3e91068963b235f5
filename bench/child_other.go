//go:build !linux

package bench

import "syscall"

// childAttributes adds nothing: whoever starts servers stops them.
func childAttributes() *syscall.SysProcAttr { return nil }
