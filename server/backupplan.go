package server

import (
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/realm"
)

// backupPlan says when a service saves its state by itself, and which of these files
// go. It has no clock and no disk: it is told what time it is, and when the files
// that are there were begun.
//
// The services of a cluster take turns: between two backups of one, each other makes
// one. Slots are a matter of the wall clock alone, so that a restart neither adds a
// backup nor loses one; what a slot was missed for is made up at once, and only once.
type backupPlan struct {
	realm.Backup
	place, of int // of the service among those of its cluster
}

// slot returns the last moment up to now at which a backup was to begin: a whole
// second, as names have it.
func (p backupPlan) slot(now time.Time) time.Time {
	every := int64(p.Every / time.Second)
	offset := every * int64(p.place) / int64(p.of)
	since := now.Unix() - offset
	return time.Unix(since-(since%every+every)%every+offset, 0).UTC()
}

// due returns when the next backup is to begin, at or before now if at once. What
// seems to be from the future was made under another clock and does not count.
func (p backupPlan) due(now time.Time, made []time.Time) time.Time {
	slot := p.slot(now)
	for _, at := range made {
		if !at.Before(slot) && !at.After(now) {
			return p.slot(now).Add(p.Every.Truncate(time.Second))
		}
	}
	return slot
}

// surplus returns which backups go, the oldest first: all but the newest of those up
// to now. What seems to be from the future stays.
func (p backupPlan) surplus(now time.Time, made []time.Time) []time.Time {
	var past []time.Time
	for _, at := range made {
		if !at.After(now) {
			past = append(past, at)
		}
	}
	slices.SortFunc(past, time.Time.Compare)
	return past[:max(0, len(past)-p.Keep)]
}

// backupTime is how the time of a backup is written in its name.
const backupTime = "20060102T150405Z"

// backupFileName is how the backup is called that a service of a cluster began at a
// time.
func backupFileName(cluster, service string, at time.Time) string {
	return stateStem(cluster, service, len(backupTime)+1) + "." + at.UTC().Format(backupTime) + stateSuffix
}

// backupMade returns when the backup of a service was begun that has this name. ok is
// false if it is something else.
func backupMade(cluster, service, name string) (at time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, stateStem(cluster, service, len(backupTime)+1)+".")
	if !ok {
		return at, false
	}
	if rest, ok = strings.CutSuffix(rest, stateSuffix); !ok {
		return at, false
	}
	at, err := time.Parse(backupTime, rest)
	return at, err == nil
}
