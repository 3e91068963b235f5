package cluster

import "errors"

var (
	// ErrNotLeader means that nothing happened: this replica does not lead.
	ErrNotLeader = errors.New("cluster: this replica does not lead")
	// ErrStopped means that nothing happened: the replica has stopped.
	ErrStopped = errors.New("cluster: the replica has stopped")
	// ErrUnknownOutcome means that the command may or may not be carried out:
	// leadership was lost, or the replica stopped, while it was on its way. Only
	// a retry under the same identity is safe.
	ErrUnknownOutcome = errors.New("cluster: the outcome is unknown")
	// ErrInstalling means that nothing happened: a snapshot is becoming the state of
	// this replica, which has none of its own meanwhile.
	ErrInstalling = errors.New("cluster: a snapshot is being installed")
	// ErrTooLarge means that nothing happened: a command is over MaxCommand.
	ErrTooLarge = errors.New("cluster: command too large")
)

// MaxCommand is the largest command, in bytes. It leaves room in a peer frame
// of 40 MiB for a message at the hard cap of 32 MiB and what is around it.
const MaxCommand = 34 << 20
