package durable

import "errors"

// ErrPage means that a saved page does not decode, or does not fit the others.
// The state is damaged: the replica must stop and be replaced from its peers.
var ErrPage = errors.New("durable: damaged page")
