package child

import "syscall"

// attributes let the kernel kill the child when we die, and keep it out of the
// group that a terminal's interrupt goes to: it is the parent who stops it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
