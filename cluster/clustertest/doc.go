// Package clustertest holds what tests of replicas share: [MemLog], a
// cluster.Log with explicit written and synced state for simulations, and
// [TestLog], which says what every cluster.Log must do. It is imported by tests
// only.
package clustertest
