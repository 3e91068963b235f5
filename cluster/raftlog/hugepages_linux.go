package raftlog

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/bytedance/gopkg/lang/dirtmake"
)

// reserveHuge gives the heap a block of n bytes that the kernel may back by huge
// pages, untouched, and lets go of it. It does so only where the administrator has
// left the choice to programs (madvise), where the process may use what memory
// there is, and where the kernel would give so much address space.
func reserveHuge(n int64) bool {
	choice, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || !bytes.Contains(choice, []byte("[madvise]")) {
		return false
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return false
	}
	// The runtime gives up the process where it is refused memory: ask first.
	probe, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil || syscall.Munmap(probe) != nil {
		return false
	}
	return adviseHuge(dirtmake.Bytes(int(n), int(n))) == nil // not cleared, so not touched
}

// adviseHuge asks for huge pages for a block, which begins at a page as all large
// blocks do.
func adviseHuge(block []byte) error { return syscall.Madvise(block, syscall.MADV_HUGEPAGE) }
