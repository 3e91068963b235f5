// Package integration holds the tests of the whole system with real processes:
// servers that are killed, paused, stopped, wiped and fed garbage while clients
// work, and whose histories are judged afterwards.
//
//	go test ./integration                     everything, short, under three minutes
//	go test ./integration -run Kill -kills 100 -timeout 0
//	go test ./integration -run NoElection -minute -timeout 0
//	go test ./integration -run Consumed -stream-gb 10 -timeout 0
//	go test ./integration -run Pending -pending 1000000 -timeout 0
//
// -keep DIR keeps the data and the logs of all servers.
//
// Package harness starts the servers and judges histories; package sim plays the
// same parts in one goroutine, with faults that processes cannot have on demand.
package integration
