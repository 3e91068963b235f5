package model

import "fmt"

// Judge is told what happens and keeps the first violation.
type Judge struct {
	// Machine is what the log means. Whoever first applies an entry hands its
	// commands on, in order.
	Machine *Machine

	log      replicated
	messages map[uint64]*message // by number
	stores   map[uint64]*ids
	durables map[uint64]*deliveries
	holds    map[uint64]map[hold]struct{} // by subscription
	err      error
}

// New returns a judge of a history that begins.
func New() *Judge {
	return &Judge{
		Machine:  newMachine(),
		log:      newReplicated(),
		messages: make(map[uint64]*message),
		stores:   make(map[uint64]*ids),
		durables: make(map[uint64]*deliveries),
		holds:    make(map[uint64]map[hold]struct{}),
	}
}

// Err returns the first violation, nil if there was none.
func (j *Judge) Err() error { return j.err }

// Failf notes a violation that somebody else saw.
func (j *Judge) Failf(format string, args ...any) {
	if j.err == nil {
		j.err = fmt.Errorf(format, args...)
	}
}

// Check notes an error of the machine, if it is one.
func (j *Judge) Check(err error) {
	if err != nil && j.err == nil {
		j.err = err
	}
}
