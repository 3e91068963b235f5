//go:build race

package server

// raceDetector allocates, too.
const raceDetector = 2
