//go:build !linux

package harness

import "syscall"

// childAttributes puts a server into a process group of its own, so that Ctrl-C
// reaches the tests alone. That the tests died, a server sees at the end of its
// standard input.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
