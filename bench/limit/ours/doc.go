// Package ours is our side of a comparison: it builds perdure from the module
// that the comparison was built with, and puts a load on three servers that
// exist for that one run.
//
// It guarantees that servers and their files are gone when Run returns.
package ours
