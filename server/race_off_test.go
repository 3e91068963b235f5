//go:build !race

package server

const raceDetector = 1
