package statefile

import "fmt"

// Section says what a block holds. The numbers are part of the format, and
// sections come in their order.
type Section uint8

const (
	SectionManifest Section = 1
	SectionStores   Section = 2
	SectionDurables Section = 3
	SectionPending  Section = 4 // pending sets
	SectionCounts   Section = 5 // delivery counts
	sectionKeys     Section = 6 // reserved: key values of last-value and map durables
	SectionSessions Section = 7 // publisher sessions
	SectionBatches  Section = 8
	sectionDead     Section = 9  // reserved: dead letters
	sectionTimers   Section = 10 // reserved: timers
	sectionTrailer  Section = 255
)

// String returns the section's name.
func (s Section) String() string {
	switch s {
	case 0:
		return "header"
	case SectionManifest:
		return "manifest"
	case SectionStores:
		return "stores"
	case SectionDurables:
		return "durables"
	case SectionPending:
		return "pending sets"
	case SectionCounts:
		return "delivery counts"
	case sectionKeys:
		return "key values"
	case SectionSessions:
		return "publisher sessions"
	case SectionBatches:
		return "batches"
	case sectionDead:
		return "dead letters"
	case sectionTimers:
		return "timers"
	case sectionTrailer:
		return "trailer"
	}
	return fmt.Sprintf("section %d", uint8(s))
}

// known reports whether this version reads the section.
func (s Section) known() bool {
	switch s {
	case SectionManifest, SectionStores, SectionDurables, SectionPending, SectionCounts, SectionSessions, SectionBatches, sectionTrailer:
		return true
	}
	return false
}

// limit is the most bytes that the content of one block may have.
func (s Section) limit() int {
	switch s {
	case SectionManifest:
		return maxManifest
	case SectionBatches:
		return maxBatchBlock
	case sectionTrailer:
		return trailerLen
	}
	return maxBlock
}
