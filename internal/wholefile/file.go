package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// BackupSuffix is what the name of a file ends with that was replaced.
const BackupSuffix = ".backup"

// ErrBusy means that another process, or another part of this one, is writing the
// same file.
var ErrBusy = errors.New("it is being written already")

// File is a file that is being written. It is one goroutine's. Its owner calls
// Commit or Discard.
type File struct {
	dir        *os.Root
	name, temp string
	f          *os.File // nil when it is over
	size       int64
}

// Create begins to write the file that is to have a name in dir. What a process
// left there that was killed meanwhile is written over.
func Create(dir *os.Root, name string) (*File, error) {
	switch info, err := dir.Lstat(name); {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is there, and is no regular file", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	temp := "." + name + ".new"
	for {
		f, err := dir.OpenFile(temp, os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		same, err := claim(dir, temp, f)
		if err == nil && same {
			err = f.Truncate(0)
		}
		switch {
		case err != nil:
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
		case same:
			return &File{dir: dir, name: name, temp: temp, f: f}, nil
		}
		// Its writer was done between our opening and locking: it is the file itself.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// claim locks f, and reports whether the name still belongs to it.
func claim(dir *os.Root, temp string, f *os.File) (same bool, err error) {
	if err := lock(f); err != nil {
		return false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !mine.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no regular file", temp)
	}
	named, err := dir.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, named), err
}

// Write implements [io.Writer].
func (f *File) Write(b []byte) (int, error) {
	n, err := f.f.Write(b)
	f.size += int64(n)
	return n, err
}

// Size is how many bytes were written.
func (f *File) Size() int64 { return f.size }

// Restart forgets what was written.
func (f *File) Restart() error {
	f.size = 0
	_, err := f.f.Seek(0, 0)
	return errors.Join(err, f.f.Truncate(0))
}

// Commit gives the file its name. When it returns, that survives a power loss. A
// file of that name becomes the backup, and the backup before it goes; at any time
// the name is that of the old file or of the new one. On an error it is the old one
// still, unless it was the last step, of the directory, that failed.
func (f *File) Commit() error {
	if err := f.f.Sync(); err != nil {
		return errors.Join(err, f.Discard())
	}
	backup := f.temp + BackupSuffix
	err := f.dir.Remove(backup)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = f.dir.Link(f.name, backup)
	}
	switch {
	case err == nil:
		err = f.dir.Rename(backup, f.name+BackupSuffix)
	case errors.Is(err, fs.ErrNotExist):
		err = nil // it is the first of this name
	default: // no links here: for a moment nothing has the name
		err = f.dir.Rename(f.name, f.name+BackupSuffix)
	}
	if err == nil {
		err = f.dir.Rename(f.temp, f.name)
	}
	if err != nil {
		return errors.Join(err, f.Discard())
	}
	err = errors.Join(f.f.Close(), SyncDir(f.dir))
	f.f = nil
	return err
}

// Discard ends writing: the name belongs to what it did before. After Commit it
// does nothing.
func (f *File) Discard() error {
	if f.f == nil {
		return nil
	}
	err := errors.Join(f.dir.Remove(f.temp), f.f.Close())
	f.f = nil
	return err
}

// SyncDir makes what files dir has survive a power loss.
func SyncDir(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
