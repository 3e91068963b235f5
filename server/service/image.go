package service

import (
	"errors"
	"fmt"
	"io"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// Image is the state of a service at one entry of the log. It stays as it is while
// the service goes on, and is read on another goroutine than the group's loop: a
// second machine is built from the pages that a capture of the log has pinned, and
// the bytes of messages are read from it as they are saved, an entry at a time.
//
// An image takes the memory of the machine that it is a copy of, about a dozen bytes
// for a batch, and no more. While it is open the log gives no space back.
type Image struct {
	machine *store.Machine
	capture cluster.Capture
	breathe func() error

	// Told, if not nil, is told now and then while the image is saved how many
	// messages are written, of how many.
	Told func(written, total uint64)
}

// OpenImage reads the pages of a capture, which is closed with the image, or now if
// that fails. breathe, if not nil, is called between pieces of work that take about
// a millisecond, here and while the image is saved: it may sleep, and its error ends
// the work.
func OpenImage(c cluster.Capture, breathe func() error) (*Image, error) {
	if breathe == nil {
		breathe = func() error { return nil }
	}
	i := &Image{machine: store.New(), capture: c, breathe: breathe}
	if err := i.load(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	i.machine.Breathe(func(written, total uint64) error {
		if i.Told != nil && total > 0 {
			i.Told(written, total)
		}
		return breathe()
	})
	return i, nil
}

// Machine returns the state, which is not to be changed.
func (i *Image) Machine() *store.Machine { return i.machine }

func (i *Image) load() error {
	err := i.capture.Pages(func(key, value []byte) error {
		if cluster.CorePage(key) {
			return nil
		}
		if err := i.machine.LoadPage(key, value); err != nil {
			return err
		}
		return i.breathe()
	})
	if err == nil {
		err = i.machine.LoadedToSave(i.capture.Applied())
	}
	if err != nil {
		return fmt.Errorf("service: the state at entry %d: %w", i.capture.Applied(), err)
	}
	return nil
}

// Save writes the state as [store.Machine.Save] does.
func (i *Image) Save(out io.Writer, about statefile.Manifest, stores ...string) (*statefile.Manifest, statefile.Totals, error) {
	return i.machine.Save(out, about, i.body, stores...)
}

// body is a [store.Bodies].
func (i *Image) body(entry uint64) (body []byte, err error) {
	if err := i.breathe(); err != nil {
		return nil, err
	}
	err = i.capture.Entries([]cluster.Range{{Lo: entry, Hi: entry + 1}}, func(_ uint64, data []byte) error {
		body = data
		return nil
	})
	return body, err
}

// Close lets go of what is pinned.
func (i *Image) Close() error { return i.capture.Close() }
