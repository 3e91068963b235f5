//go:build race

package sim

// The race detector makes a run ten times slower, and one goroutine has no
// races: a few seeds show that.
const underRace = true
