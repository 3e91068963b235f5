package server

import (
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// What is saved is held by the log until its client has read it. So a client must not
// take for ever, nor the disk of the log run full meanwhile.
const (
	// readRate is how many bytes a client must read in each readUnit that it is waited
	// for.
	readRate = 1 << 20
	readUnit = time.Minute
	// readCredit is how far it may be behind that.
	readCredit = 3 * time.Minute
)

// readPace finds out clients that read slowly. Only what they are waited for counts:
// a server that rests, or has much to do, is not their fault.
type readPace struct {
	owed time.Duration // by which it is slower than it must be
}

// sent notes that a piece of a state took a while to be sent. Its error says that the
// client is too slow.
func (p *readPace) sent(bytes int, took time.Duration) error {
	p.owed = max(0, p.owed+took-time.Duration(bytes)*readUnit/readRate)
	if p.owed > readCredit {
		return faultf(perdurepb.Reason_REASON_CLIENT_TIMEOUT, "the client reads less than %d MiB a minute, for some minutes now, and the log gives no space back of what is saved; save where it is read faster, or into the state directory of the server", readRate>>20)
	}
	return nil
}

// roomWatch finds out that the disk of the log runs full.
type roomWatch struct {
	free  func() (uint64, bool)
	least uint64
}

// watchRoom begins to watch. Where the disk is nearly full already a state can still
// be saved, but that must not go on getting worse.
func watchRoom(free func() (uint64, bool)) *roomWatch {
	w := &roomWatch{free: free, least: diskReserve}
	if now, ok := free(); ok {
		w.least = min(w.least, now/2)
	}
	return w
}

func (w *roomWatch) check() error {
	if free, ok := w.free(); ok && free < w.least {
		return faultf(perdurepb.Reason_REASON_FILE_FAILED, "the disk of the server's log has %d MiB left, and a state that is saved takes room there until it is read; make room, then save again", free>>20)
	}
	return nil
}
