package sim

import "github.com/perdure/perdure/cluster"

// Mutant is a bug planted in the simulator's own wrappers, to see whether it is
// found.
type Mutant string

// NoMutant plants nothing.
const NoMutant Mutant = ""

func (l *diskLog) mutate(w cluster.Write, done func()) (cluster.Write, func()) { return w, done }

func (l *diskLog) mutateCheckpoint(c cluster.Checkpoint) cluster.Checkpoint { return c }
