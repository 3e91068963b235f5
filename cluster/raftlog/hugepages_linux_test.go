package raftlog

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/bytedance/gopkg/lang/dirtmake"
)

// TestBlockIsOfHugePages asks the kernel whether it has taken the advice for the
// heap's memory. Kernels without huge pages refuse it.
func TestBlockIsOfHugePages(t *testing.T) {
	block := dirtmake.Bytes(8<<20, 8<<20)
	err := adviseHuge(block)
	if _, missing := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); missing != nil {
		if err == nil {
			t.Error("a kernel without huge pages took the advice")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if flags := flagsOf(t, uintptr(unsafe.Pointer(&block[4<<20]))); !strings.Contains(flags, " hg") {
		t.Errorf("the block's pages have flags%s, without hg", flags)
	}
}

// flagsOf reads the kernel's flags of the region that holds an address.
func flagsOf(t *testing.T, address uintptr) string {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	within := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var lo, hi uintptr
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x ", &lo, &hi); n == 2 {
			within = lo <= address && address < hi
		}
		if flags, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && within {
			return flags
		}
	}
	t.Fatalf("no region holds %x", address)
	return ""
}
