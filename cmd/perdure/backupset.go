package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"
)

// A backup of everything is a directory: the realm definition, a state file for each
// cluster, and a list of these with their sums, which is written last. Without the
// list it is no backup.
const (
	setList   = "manifest.json"
	setRealm  = "realm.yaml"
	setFormat = 1
	// maxSetList bounds what is read as a list: some hundred bytes for each cluster.
	maxSetList = 16 << 20
)

// backupSet is the list. Its JSON is a format: later versions read it.
type backupSet struct {
	Format   int             `json:"format"`
	Version  string          `json:"perdure_version"`
	Made     time.Time       `json:"made"`
	Realm    string          `json:"realm"`
	Revision uint64          `json:"realm_revision"`
	File     setFile         `json:"realm_file"`
	Clusters []backupCluster `json:"clusters"`
}

// setFile is a file of a backup.
type setFile struct {
	Name   string `json:"file"`
	Bytes  uint64 `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// backupCluster is a cluster in a backup.
type backupCluster struct {
	Name string `json:"name"`
	setFile
	Applied   uint64 `json:"applied"` // the entry of the cluster's log at which it was taken
	StateHash string `json:"state_hash"`
	Messages  uint64 `json:"messages"`
}

var setName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// clusterFiles names the files of clusters: after them where that is a good name on
// any system, else by number.
func clusterFiles(clusters []string) []string {
	taken := map[string]bool{setList: true, setRealm: true}
	names := make([]string, len(clusters))
	for i, c := range clusters {
		name := c + ".state"
		if !setName.MatchString(name) || taken[strings.ToLower(name)] {
			name = fmt.Sprintf("cluster-%d.state", i+1)
			for n := 2; taken[name]; n++ {
				name = fmt.Sprintf("cluster-%d-%d.state", i+1, n)
			}
		}
		taken[strings.ToLower(name)] = true
		names[i] = name
	}
	return names
}

// readSet reads the list of a backup. It is not trusted further than its format.
func readSet(dir *os.Root) (*backupSet, error) {
	f, err := dir.Open(setList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failuref(reasonFailed, "%s is no backup, or one that was not completed: it has no %s", dir.Name(), setList)
	} else if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxSetList+1))
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	s, err := parseSet(b)
	if err != nil {
		return nil, failuref(reasonFailed, "%s of %s: %w", setList, dir.Name(), err)
	}
	return s, nil
}

func parseSet(b []byte) (*backupSet, error) {
	if len(b) > maxSetList {
		return nil, fmt.Errorf("it has more than %d bytes", maxSetList)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, err
	}
	if head.Format > setFormat {
		return nil, fmt.Errorf("format %d, this program reads up to %d", head.Format, setFormat)
	}
	s := new(backupSet)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	files, clusters := map[string]bool{}, map[string]bool{}
	check := func(f setFile) error {
		sum, err := hex.DecodeString(f.SHA256)
		switch {
		case !setName.MatchString(f.Name) || f.Name == setList || files[f.Name]:
			return fmt.Errorf("%q is no name of a file, or is there twice", f.Name)
		case err != nil || len(sum) != sha256.Size:
			return fmt.Errorf("%s: %q is no SHA-256", f.Name, f.SHA256)
		}
		files[f.Name] = true
		return nil
	}
	if s.Format < 1 {
		return nil, fmt.Errorf("format %d", s.Format)
	}
	if err := check(s.File); err != nil {
		return nil, err
	}
	for _, c := range s.Clusters {
		if c.Name == "" || clusters[c.Name] {
			return nil, fmt.Errorf("cluster %q has no name, or is there twice", c.Name)
		}
		clusters[c.Name] = true
		if err := check(c.setFile); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// encode returns the list as it is written.
func (s *backupSet) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// check reads a file to its end, and says whether it is the one that was listed.
// read is told of every piece.
func (f *setFile) check(in io.Reader, read func(int)) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, counting(read)), in)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", f.Name, err)
	case uint64(n) != f.Bytes:
		return failuref(reasonDifferent, "%s has %d bytes, and had %d when the backup was made", f.Name, n, f.Bytes)
	case hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return failuref(reasonDifferent, "%s is not what it was when the backup was made: its SHA-256 differs", f.Name)
	}
	return nil
}

// counting is told how much is written.
type counting func(int)

func (c counting) Write(b []byte) (int, error) {
	c(len(b))
	return len(b), nil
}

// loadID names the loading of the file, so that it is the same load whenever it is
// tried again. It is never 0.
func (f *setFile) loadID() uint64 {
	var id uint64
	sum, _ := hex.DecodeString(f.SHA256) // readSet has looked
	for _, b := range sum[:8] {
		id = id<<8 | uint64(b)
	}
	return max(id, 1)
}
