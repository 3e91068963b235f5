// Package program is what the programs of tables have in common: their flags,
// how they end, and the table.
//
//	Main ─▶ run: Table.Parse ─▶ Options ─▶ rows ─▶ Options.Print
//
// It guarantees that an interrupted program prints the rows that it has and says
// that they are not all.
//
// It measures nothing: packages ratio and ours do.
package program
