package store

import (
	"cmp"
	"slices"
)

// entries counts, for each log entry, its batches that somebody needs. It
// follows from the indexes of the stores, so it is not saved.
type entries struct {
	list []entryLive // ascending; those with live 0 go when they are many
	zero int         // how many have live 0
	dead []uint64    // to be told, each once
}

type entryLive struct {
	index uint64
	live  uint32
}

// add notes another needed batch in the entry at index, which is the newest.
func (e *entries) add(index uint64) {
	if n := len(e.list); n > 0 && e.list[n-1].index == index {
		e.list[n-1].live++
		return
	}
	e.list = append(e.list, entryLive{index: index, live: 1})
}

// drop notes that a batch of the entry at index is dead. now is the entry being
// applied: whether that one is dead is not known before its end.
func (e *entries) drop(index, now uint64) bool {
	i, ok := slices.BinarySearchFunc(e.list, index, func(l entryLive, index uint64) int { return cmp.Compare(l.index, index) })
	if !ok || e.list[i].live == 0 {
		return false
	}
	if e.list[i].live--; e.list[i].live > 0 || index == now {
		return true
	}
	e.dead = append(e.dead, index)
	e.zero++
	return true
}

// close ends the entry at index: if all its batches died with it, it is dead.
func (e *entries) close(index uint64) {
	if n := len(e.list); n > 0 && e.list[n-1].index == index && e.list[n-1].live == 0 {
		e.list = e.list[:n-1]
		e.dead = append(e.dead, index)
	}
	front := 0
	for front < len(e.list) && e.list[front].live == 0 {
		front++
	}
	e.zero -= front
	if len(e.list)-front > 64 {
		e.list = e.list[front:] // a backlog: nothing moves
	} else {
		e.list = slices.Delete(e.list, 0, front)
	}
	if e.zero > 64 && e.zero > len(e.list)/2 {
		e.list = slices.DeleteFunc(e.list, func(l entryLive) bool { return l.live == 0 })
		e.zero = 0
	}
}

// Dead yields, ascending, the indexes of entries that have come to be unneeded
// since it was last called, each once, and only entries for which Live was once
// true.
func (m *Machine) Dead(yield func(index uint64)) {
	slices.Sort(m.entries.dead)
	for _, index := range m.entries.dead {
		yield(index)
	}
	m.entries.dead = m.entries.dead[:0]
}

// Live yields, ascending, the indexes from lo on and below hi of the entries
// that hold a message somebody needs.
func (m *Machine) Live(lo, hi uint64, yield func(index uint64)) {
	list := m.entries.list
	i, _ := slices.BinarySearchFunc(list, lo, func(l entryLive, index uint64) int { return cmp.Compare(l.index, index) })
	for ; i < len(list) && list[i].index < hi; i++ {
		if list[i].live > 0 {
			yield(list[i].index)
		}
	}
}
