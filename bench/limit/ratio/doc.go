// Package ratio turns runs of two systems into a table of ratios: ours against
// a peer, the same load, measured in turns.
//
// It guarantees that a ratio is the quotient of the two medians, ours by the
// peer's, in every unit: above 1 is good for rates, below 1 for times and
// processor seconds. What cannot be compared is an error, never a row.
//
// It measures nothing itself and judges no ratio.
package ratio
