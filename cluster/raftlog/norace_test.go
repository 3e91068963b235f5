//go:build !race

package raftlog

// sparse thins out what is tried at every operation; here nothing is.
const sparse = 1
