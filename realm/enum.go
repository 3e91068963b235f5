package realm

import "fmt"

// Durability says when a message counts as stored by one member of a cluster.
type Durability uint8

const (
	Memory Durability = iota + 1 // it is in the process's memory
	Async                        // the operating system has it; synced in time
	Sync                         // it survives a power cut
)

// Kind is the type of a durable or template. It never changes.
type Kind uint8

const (
	Standard Kind = iota + 1 // one subscriber at a time, in order
	Shared                   // many subscribers share the messages
)

// PublisherMode says whether publishers wait for a confirmation.
type PublisherMode uint8

const (
	Confirm PublisherMode = iota + 1
	NoConfirm
)

// Profile is a set of tuning values that were chosen together.
type Profile uint8

const (
	DefaultProfile Profile = iota + 1
	FastProfile
)

// The words of each enumeration, in the order of its values from 1 on.
var (
	durabilityWords = []string{"memory", "async", "sync"}
	kindWords       = []string{"standard", "shared"}
	modeWords       = []string{"confirm", "noconfirm"}
	profileWords    = []string{"default", "fast"}
)

func (d Durability) String() string    { return word(uint8(d), durabilityWords) }
func (k Kind) String() string          { return word(uint8(k), kindWords) }
func (m PublisherMode) String() string { return word(uint8(m), modeWords) }
func (p Profile) String() string       { return word(uint8(p), profileWords) }

func word(value uint8, words []string) string {
	if value == 0 || int(value) > len(words) {
		return fmt.Sprintf("unknown(%d)", value)
	}
	return words[value-1]
}

func known(value uint8, words []string) bool {
	return value > 0 && int(value) <= len(words)
}
