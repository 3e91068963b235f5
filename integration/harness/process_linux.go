package harness

import "syscall"

// childAttributes puts a server into a process group of its own, so that Ctrl-C
// reaches the tests alone, and makes the kernel kill it when the tests die: a
// paused server would not notice by itself.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
