package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// devFile is the name of the file in which `perdure dev` says what it runs.
const devFile = "dev.json"

// devState is what dev.json holds, and what `dev ls -o json` prints.
type devState struct {
	PID     int         `json:"pid"`     // of the process in the foreground
	Control string      `json:"control"` // its socket
	Connect string      `json:"connect"` // for clients
	Servers []devServer `json:"servers"`
}

type devServer struct {
	Name   string `json:"name"`
	State  string `json:"state"` // running, paused, stopped
	PID    int    `json:"pid"`   // 0 while stopped
	Client string `json:"client"`
	Peer   string `json:"peer"`
	Ops    string `json:"ops"`
	Data   string `json:"data"`
	Log    string `json:"log"`
}

// readDevState returns nil where no dev has run.
func readDevState(dir string) (*devState, error) {
	path := filepath.Join(dir, devFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &devState{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; remove it", path, err)
	}
	return s, nil
}

// write replaces dev.json so that readers see the old or the new one, whole.
func (s *devState) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, devFile+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, devFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// devDirectory returns the directory of `perdure dev`: what was given, or
// perdure/dev in the user's cache directory, or ./perdure-dev where there is none.
func (p *program) devDirectory(given string) (string, error) {
	if given == "" {
		given = "perdure-dev"
		if cache, ok := lookup(p.environ, "XDG_CACHE_HOME"); ok && filepath.IsAbs(cache) {
			given = filepath.Join(cache, "perdure", "dev")
		} else if home, ok := lookup(p.environ, "HOME"); ok && filepath.IsAbs(home) {
			given = filepath.Join(home, ".cache", "perdure", "dev")
		}
	}
	return filepath.Abs(given)
}
