package server

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// identityFile is the name of the file that says who a data directory belongs
// to. It is written before what it promises takes effect, and never loses what
// it said.
const identityFile = "server.json"

// realmID names a realm for ever; zero is none.
type realmID [16]byte

func (id realmID) String() string { return hex.EncodeToString(id[:]) }

func (id realmID) zero() bool { return id == realmID{} }

// MarshalText implements [encoding.TextMarshaler].
func (id realmID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *realmID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) {
		return fmt.Errorf("realm id %q: want %d hexadecimal digits", text, 2*len(id))
	}
	copy(id[:], b)
	return nil
}

// identity is what a data directory must not forget about its server.
type identity struct {
	// Install is drawn once for a directory. A server that comes with another
	// one has lost its directory.
	Install uint64 `json:"install,string"`
	Name    string `json:"name"`
	// Realm is the realm that the directory belongs to.
	Realm realmID `json:"realm"`
	// Founded says that all core servers belong to the realm, so that this one
	// may take part.
	Founded bool `json:"founded"`
	// Proposed is the realm id that this server drew for a formation under way.
	Proposed realmID `json:"proposed"`
	// Server is the id that the realm gave an auxiliary server.
	Server uint64 `json:"server,string"`
}

// openIdentity reads the identity in dir, or draws a new one.
func openIdentity(dir, name string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := &identity{Install: random64(), Name: name}
		return id, id.save(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	id := &identity{}
	err = json.Unmarshal(data, id)
	if err == nil && id.Install == 0 {
		err = errors.New("it has no install number")
	}
	if err != nil {
		return nil, fmt.Errorf("data: %s is damaged: %w; restore it from a backup of the directory, or start with an empty directory", path, err)
	}
	if id.Name != name {
		return nil, fmt.Errorf("data: %s belongs to server %q, this one is %q; choose another --data", dir, id.Name, name)
	}
	return id, nil
}

// save writes the identity so that it survives a power loss when save returns.
func (id *identity) save(dir string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(dir, identityFile, data)
}

// writeFile replaces a file so that after a crash the old or the new one is
// there, whole: write beside, sync, rename, sync the directory.
func writeFile(dir, name string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("data: write %s: %w", filepath.Join(dir, name), err)
		}
	}()
	f, err := os.CreateTemp(dir, name+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// random64 draws a number that is not 0.
func random64() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails (Go 1.24 and later)
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}
