// Package child runs this program again, as a server process of its own.
//
// It guarantees that no child outlives its parent, however that one ends: the
// kernel kills children of a dead parent where it can (Linux), and everywhere a
// child that called Follow ends when its standard input does.
//
// It does not restart what died, and signals nothing that it did not start.
package child
