package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/perdure/perdure/client"
)

// importVersion is of the session file, and of the way in which an input is cut
// into batches: only equal batches have equal numbers.
const importVersion = 1

// importHead is the first line of a session file: what is imported, and under
// which publisher session.
type importHead struct {
	Import   int    `json:"import"` // importVersion
	Cluster  string `json:"cluster"`
	Store    string `json:"store"`
	Endpoint string `json:"endpoint"`
	Format   string `json:"format"`

	Session uint64 `json:"session"`
	Epoch   uint64 `json:"epoch"`
	StoreID uint64 `json:"store_id"`
	Before  uint64 `json:"before"` // batches that came under other sessions
}

// importLine is another line: a batch is about to be sent, or one is confirmed.
type importLine struct {
	Sent      uint64 `json:"sent,omitempty"` // number of the batch in the input, from 1 on
	Lines     int    `json:"lines,omitempty"`
	Messages  int    `json:"messages,omitempty"`
	Sum       string `json:"sha256,omitempty"` // of the input up to the batch's end
	Confirmed uint64 `json:"confirmed,omitempty"`
}

// importSession is the file that an import leaves when it does not end well. It is
// appended to, so that a killed import leaves it as well; what is behind its last
// whole line is not there.
type importSession struct {
	name      string
	head      importHead
	marks     []importLine // of batches that were sent, ascending
	confirmed uint64       // the highest
	file      *os.File     // to append to; nil until it is begun
	size      int64        // of the whole lines
}

// readImportSession reads the file of an import that was begun, or makes one that
// was not. An empty name is one that is never written.
func readImportSession(name string) (*importSession, error) {
	s := &importSession{name: name}
	if name == "" {
		return s, nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session file: %w", err)
	}
	lines := bufio.NewReader(bytes.NewReader(text))
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return s, nil
		}
		if err := s.read(n, line); err != nil {
			return nil, failuref("INVALID_ARGUMENT", "%s:%d: it is no session file of an import: %w; remove it, or give another with --session", name, n, err)
		}
		s.size += int64(len(line))
	}
}

func (s *importSession) read(n int, text []byte) error {
	if n == 1 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&s.head); err != nil {
			return err
		}
		if s.head.Import != importVersion || s.head.Session == 0 {
			return fmt.Errorf("it is of version %d, session %d; this is version %d", s.head.Import, s.head.Session, importVersion)
		}
		return nil
	}
	var line importLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	if line.Sent > 0 {
		s.marks = append(s.marks, line)
	}
	s.confirmed = max(s.confirmed, line.Confirmed)
	return nil
}

// begun reports whether there is a session to go on with.
func (s *importSession) begun() bool { return s.head.Session != 0 }

// client returns the session to go on with.
func (s *importSession) client() client.Session {
	return client.Session{ID: s.head.Session, Epoch: s.head.Epoch, Store: s.head.StoreID}
}

// mark returns what is known of the input up to a batch.
func (s *importSession) mark(batch uint64) (importLine, bool) {
	for _, m := range slices.Backward(s.marks) { // the latest
		if m.Sent == batch {
			return m, true
		}
	}
	return importLine{}, false
}

// last returns the last batch that may have been sent.
func (s *importSession) last() importLine {
	if n := len(s.marks); n > 0 {
		return s.marks[n-1]
	}
	return importLine{}
}

// open makes the file ready to be appended to; head is what it begins with, unless
// it goes on. What was confirmed under another session is kept.
func (s *importSession) open(head importHead) (err error) {
	if s.name == "" || head.Session == 0 {
		return nil // an endpoint that confirms nothing has no session
	}
	if s.begun() && s.head == head {
		if s.file, err = os.OpenFile(s.name, os.O_WRONLY, 0); err == nil {
			if err = s.file.Truncate(s.size); err == nil {
				_, err = s.file.Seek(s.size, io.SeekStart)
			}
		}
		return sessionFailed(err)
	}
	before, known := s.mark(head.Before)
	s.head, s.marks = head, nil
	if s.file, err = os.CreateTemp(filepath.Dir(s.name), ".import-*"); err != nil {
		return sessionFailed(err)
	}
	temporary := s.file.Name()
	if err = s.append(head); err == nil && known {
		if err = s.append(before); err == nil {
			err = s.append(importLine{Confirmed: before.Sent})
		}
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, s.name)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return sessionFailed(err)
}

func sessionFailed(err error) error {
	if err != nil {
		err = fmt.Errorf("session file, without which the import could not go on after a failure: %w", err)
	}
	return err
}

// append writes a line.
func (s *importSession) append(line any) error {
	if s.file == nil {
		return nil
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = s.file.Write(append(text, '\n'))
	}
	return sessionFailed(err)
}

func (s *importSession) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// done removes the file: everything is confirmed, or nothing was published.
func (s *importSession) done() error {
	if s.file == nil {
		return nil
	}
	s.close()
	s.file = nil
	return sessionFailed(os.Remove(s.name))
}
