//go:build unix && !linux

package fleet

import "syscall"

// childAttributes puts a server into a process group of its own, so that Ctrl-C
// reaches us alone and we stop it gracefully.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
