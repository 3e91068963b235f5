package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/internal/wholefile"
)

// What this server has of saved states is in one directory, which nothing that a
// client says leads out of: clients give bare names, and every file is opened
// through an [os.Root].

const (
	stateSuffix  = ".state"
	loadedSuffix = ".loaded"
	// longestStateName is the longest name that a client may give. What this server
	// names itself is shorter, so that .backup and .loaded fit.
	longestStateName = 64
	longestOwnName   = longestStateName - len(wholefile.BackupSuffix)
)

// stateDir is where the directory is.
func (s *Server) stateDir() string {
	if s.config.StateDir != "" {
		return s.config.StateDir
	}
	return filepath.Join(s.config.Data, "state")
}

// openStateDir opens the directory, which is made when it is needed first.
func (s *Server) openStateDir() (*os.Root, error) {
	dir := s.stateDir()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, s.fileFault("open the state directory", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, s.fileFault("open the state directory", err)
	}
	return root, nil
}

// stateFileName is how the file is called into which a service of a cluster is
// saved.
func stateFileName(cluster, service string) string {
	return stateStem(cluster, service, 0) + stateSuffix
}

// stateStem is what the names of the files of a service begin with; more bytes follow,
// and then the suffix. Where names have letters that file names should not have, or
// are too long, it tells them apart by a sum.
func stateStem(cluster, service string, more int) string {
	most := longestOwnName - len(stateSuffix) - more
	plain := cluster + "." + service
	name := strings.Map(func(r rune) rune {
		if stateNameRune(r) {
			return r
		}
		return '_'
	}, plain)
	if strings.Count(plain, ".") == 1 && name == plain && name[0] != '.' && len(name) <= most {
		return name
	}
	sum := fmt.Sprintf("-%x", sha256.Sum256([]byte(cluster+"\x00"+service)))[:13]
	name = "_" + strings.TrimLeft(name, ".")
	return name[:min(len(name), most-len(sum))] + sum
}

func stateNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// checkStateName refuses what is no bare name of a file.
func checkStateName(name string) error {
	if name == "" || len(name) > longestStateName || name[0] == '.' || strings.ContainsFunc(name, func(r rune) bool { return !stateNameRune(r) }) {
		return faultf(perdurepb.Reason_REASON_INVALID_NAME, "%.100q is no name of a file in a state directory: give 1 to %d of the letters A-Z a-z 0-9 . _ -, the first not a dot, and no path", name, longestStateName)
	}
	return nil
}

// createState begins to write a file of the state directory. done ends it either
// way, and is called once.
func (s *Server) createState(name string) (f *wholefile.File, done func(error) error, err error) {
	root, err := s.openStateDir()
	if err != nil {
		return nil, nil, err
	}
	f, err = wholefile.Create(root, name)
	if errors.Is(err, wholefile.ErrBusy) {
		err = faultf(perdurepb.Reason_REASON_OVERLOADED, "server %s is writing %s for somebody else; try again when that is done", s.config.Name, name)
	} else if err != nil {
		err = s.fileFault("write "+name, err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	return f, func(err error) error {
		if err != nil {
			return errors.Join(err, f.Discard(), root.Close())
		}
		if err := f.Commit(); err != nil {
			return errors.Join(s.fileFault("write "+name, err), root.Close())
		}
		return root.Close()
	}, nil
}

// readState opens a file of the state directory.
func (s *Server) readState(name string) (*os.File, error) {
	if err := checkStateName(name); err != nil {
		return nil, err
	}
	root, err := s.openStateDir()
	if err != nil {
		return nil, err
	}
	// Without waiting: what is no file might let nobody open it.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		info, e := f.Stat()
		if e == nil && !info.Mode().IsRegular() {
			e = errors.New("it is no regular file")
		}
		if e != nil {
			err = errors.Join(e, f.Close())
		}
	}
	switch err = errors.Join(err, root.Close()); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, faultf(perdurepb.Reason_REASON_NO_SUCH_FILE, "server %s has no file %s in its state directory", s.config.Name, name)
	case err != nil:
		return nil, s.fileFault("read "+name, err)
	}
	return f, nil
}

// markLoaded renames a file of the state directory that was loaded.
func (s *Server) markLoaded(name string) (to string, err error) {
	f, err := s.readState(name)
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", s.fileFault("read "+name, err)
	}
	root, err := s.openStateDir()
	if err != nil {
		return "", err
	}
	to = freeName(root, name+loadedSuffix)
	err = errors.Join(root.Rename(name, to), wholefile.SyncDir(root), root.Close())
	if err != nil {
		return "", s.fileFault("rename "+name, err)
	}
	s.logger.Info("state file loaded and renamed", "file", to)
	return to, nil
}

// freeName is a name that no regular file has: the given one, or that with a number. What
// was loaded before under the same name is kept.
func freeName(root *os.Root, name string) string {
	free := name
	for n := 2; ; n++ {
		if info, err := root.Lstat(free); err != nil || !info.Mode().IsRegular() {
			return free
		}
		free = fmt.Sprintf("%s.%d", name, n)
	}
}

// fileFault is what a client hears of a file that cannot be read or written: what
// the system said, and no path.
func (s *Server) fileFault(what string, err error) *fault {
	s.logger.Error("state file", "what", what, "dir", s.stateDir(), "err", err)
	why := err.Error()
	var number syscall.Errno
	if errors.As(err, &number) {
		why = number.Error()
	}
	return faultf(perdurepb.Reason_REASON_FILE_FAILED, "server %s cannot %s: %s; its log has more", s.config.Name, what, why)
}

// diskReserve is what is left free on the disk of the state directory: the log may
// be there, too, and a server whose log cannot be written ends.
const diskReserve = 256 << 20

// reserveEvery is how many bytes are written between two looks at what is free.
const reserveEvery = 16 << 20

// intoFile writes to a file of the state directory, as long as the disk has room.
func (s *Server) intoFile(f *wholefile.File, name string) func([]byte) error {
	looked := int64(-reserveEvery)
	return func(b []byte) error {
		if f.Size()-looked >= reserveEvery {
			looked = f.Size()
			if free, ok := freeBytes(s.stateDir()); ok && free < diskReserve {
				return faultf(perdurepb.Reason_REASON_FILE_FAILED, "server %s cannot write %s: its disk has %d MiB left, and %d are kept free for the log; make room, or choose another --state-dir", s.config.Name, name, free>>20, diskReserve>>20)
			}
		}
		if _, err := f.Write(b); err != nil {
			return s.fileFault("write "+name, err)
		}
		return nil
	}
}

// ReadState implements perdurepb.AdminServer.
func (s *Server) ReadState(m *perdurepb.ReadStateRequest, stream grpc.ServerStreamingServer[perdurepb.ReadStateResponse]) error {
	f, err := s.readState(m.GetName())
	if err != nil {
		return asFault(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	for buf := make([]byte, chunkBytes); ; {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := stream.Send(&perdurepb.ReadStateResponse{Chunk: buf[:n]}); err != nil {
				return &goneError{err}
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return s.fileFault("read "+m.GetName(), err)
		}
	}
}

// MarkLoaded implements perdurepb.AdminServer.
func (s *Server) MarkLoaded(_ context.Context, m *perdurepb.MarkLoadedRequest) (*perdurepb.MarkLoadedResponse, error) {
	name, err := s.markLoaded(m.GetName())
	if err != nil {
		return nil, asFault(err)
	}
	return &perdurepb.MarkLoadedResponse{Name: name}, nil
}
