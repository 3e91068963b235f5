package fleet

import "syscall"

// childAttributes puts a server into a process group of its own, so that Ctrl-C
// reaches us alone and we stop it gracefully, and makes the kernel kill it if
// we die without stopping it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
