//go:build !linux

package raftlog

func reserveHuge(int64) bool { return false }
