//go:build !race

package server

const raceDetector = 1

// allocBatches fill the tables of the log several times, so that what that costs
// is in every figure.
const allocBatches = 2000
