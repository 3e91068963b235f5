// Package fleet runs servers of perdure on this machine, each a process: for
// perdure dev, perdure demo and the benchmarks.
//
//	New ─▶ Fleet: StartAll, Ready, Stop, Kill ─▶ Node: Start, Pause, Resume, Kill, Ready
//
// It guarantees that no server outlives the process that started it where the
// kernel can see to that (Linux), and that whoever waits for a server to become
// ready hears at once when it cannot: it ended, with the last line of its log, or
// services of it are fenced (FencedError).
//
// It knows nothing of what the servers hold, and removes no files.
package fleet
