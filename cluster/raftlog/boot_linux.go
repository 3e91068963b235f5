package raftlog

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// bootID reads the number the kernel drew when it started.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("raftlog: read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// networkFS names the network file system that dir is on, or "".
func networkFS(dir string) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("raftlog: ask for the file system of %s: %w", dir, err)
	}
	return map[uint32]string{
		0x6969:     "NFS",
		0x517B:     "SMB",
		0xFF534D42: "CIFS",
		0xFE534D42: "SMB2",
		0x5346414F: "AFS",
		0x00C36400: "Ceph",
		0x0BD00BD0: "Lustre",
		0x7461636F: "OCFS2",
		0x01161970: "GFS2",
	}[uint32(s.Type)], nil
}
