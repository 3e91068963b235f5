//go:build race

package server

// raceDetector allocates, too.
const raceDetector = 2

// allocBatches are few, since everything takes ten times as long.
const allocBatches = 200
