package raftlog

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Mode says what a write survives once its done has run.
type Mode uint8

const (
	// Memory keeps everything in memory. A restart forgets.
	Memory Mode = iota + 1
	// Async hands every write to the operating system and syncs on a timer: a
	// write survives the end of the process, not always a power cut.
	Async
	// Sync syncs before done: a write survives a power cut.
	Sync
)

func (m Mode) String() string {
	switch m {
	case Memory:
		return "memory"
	case Async:
		return "async"
	case Sync:
		return "sync"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// Options are the settings of an Engine. Dir and Mode are required.
type Options struct {
	// Dir belongs to the engine alone. It is created if it does not exist.
	Dir  string
	Mode Mode
	// SyncInterval is how often mode async syncs, and how often the watermark is
	// written in all modes. Default 100 ms.
	SyncInterval time.Duration
	// FS holds every file of the engine. Default: the operating system's.
	FS vfs.FS
	// Logger is told what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// CacheBytes bounds the entry data kept in memory for reading, over all
	// groups. Default 128 MiB, more than a follower under load is behind: what it is sent
	// is read from files else. Mode memory has no cache: the log is in memory.
	CacheBytes int64
	// MemTableBytes is the size of one Pebble memtable. Default 64 MiB.
	MemTableBytes uint64
	// AllowNetworkFS accepts a directory on a network file system, whose syncs
	// and locks may promise less than they say.
	AllowNetworkFS bool
	// SetAside moves data that cannot be opened because it is corrupt to a
	// directory beside it and starts without: every copy then may have
	// forgotten, and is replaced from its peers. Otherwise Open fails.
	SetAside bool
	// Fatal is called when a write or a sync failed; it should end the process.
	// If it returns, the goroutine that failed sleeps for ever, and with it who
	// waits for it. Default: exit with status 3.
	Fatal func(error)
	// BootID returns a text that changes with every start of the machine.
	// Default: Linux's /proc/sys/kernel/random/boot_id.
	BootID func() (string, error)

	// SegmentBytes is the size of a segment of the journal. Default 32 MiB.
	SegmentBytes int64

	// inPebble keeps entries in Pebble, too: the twin with which tests compare the
	// journal.
	inPebble bool
	// eager moves entries in the journal whenever it can; for tests.
	eager bool
	// tune changes Pebble's options; for tests.
	tune func(*pebble.Options)
}

func (o *Options) setDefaults() {
	if o.SyncInterval == 0 {
		o.SyncInterval = 100 * time.Millisecond
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 128 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.Fatal == nil {
		o.Fatal = exit
	}
	if o.BootID == nil {
		o.BootID = bootID
	}
}

func (o *Options) validate() error {
	if o.Dir == "" {
		return fmt.Errorf("raftlog: no directory given: set Options.Dir")
	}
	if o.Mode < Memory || o.Mode > Sync {
		return fmt.Errorf("raftlog: unknown durability mode %d: set Options.Mode", o.Mode)
	}
	if o.SyncInterval < 0 {
		return fmt.Errorf("raftlog: negative sync interval %v", o.SyncInterval)
	}
	return nil
}
