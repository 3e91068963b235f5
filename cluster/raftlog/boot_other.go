//go:build !linux

package raftlog

import "errors"

// bootID is unknown here, so mode async trusts clean stops only.
func bootID() (string, error) {
	return "", errors.New("raftlog: this operating system has no boot id")
}

func networkFS(string) (string, error) { return "", nil }
