package store

import "errors"

// Every error of Apply and of loading stops the replica: nothing of the entry
// may be confirmed by it.
var (
	// ErrOrder means that entries do not come in the order of the log.
	ErrOrder = errors.New("store: entries out of order")
	// ErrUnknownCommand means a command of a newer version. Nothing of its
	// entry was applied: upgrade this server, and it goes on there.
	ErrUnknownCommand = errors.New("store: unknown kind of command")
	// ErrState means that the state contradicts itself: a saved page is
	// damaged, or there is a bug. The replica must be replaced from its peers.
	ErrState = errors.New("store: inconsistent state")
)
