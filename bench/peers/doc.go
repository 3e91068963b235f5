// Command peers compares perdure with other systems: the same loads, in turns,
// on the same machine, with what comes nearest to the same durability.
//
// Each system is three server processes on loopback: perdure's are its own
// program, those of NATS JetStream and etcd are this program again, with the
// peer's server inside. The peers are dependencies of this module only, so they
// reach nobody who uses perdure.
//
// A peer is measured on its best path: of several ways to publish, and several
// windows, short trials choose the fastest, on both sides. README.md says what
// is compared with what.
//
// It guarantees that no server outlives it. It does not judge the ratios.
package main
