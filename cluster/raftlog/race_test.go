//go:build race

package raftlog

// sparse thins out what is tried at every operation: with -race, Pebble checks
// itself and takes many times as long.
const sparse = 12
