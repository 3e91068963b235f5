package raftlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	registryFile  = "registry"
	registryMagic = "perdure-raftlog 1 "
)

// registry is the small file that is on disk in every mode: which copies were
// ever promised to exist, under which boot of the machine the engine last ran,
// and whether it stopped cleanly. It is replaced whole, so it has one state.
type registry struct {
	Mode string `json:"mode"`
	// Boot and Device are of the last open. A change of either means that what
	// only the operating system held may be gone.
	Boot   string `json:"boot"`
	Device string `json:"device"`
	// Clean is true from a clean stop to the next open, false while running.
	Clean bool `json:"clean"`
	// Ready is true once the data was created whole. Without it, what there is
	// of it was never used.
	Ready bool `json:"ready"`
	// Torn is true from when mode async found that the machine had stopped until
	// the end of its log was cut where it is whole.
	Torn bool `json:"torn"`
	// Next is the next generation in mode memory. On disk, Pebble counts.
	Next   uint32         `json:"next_generation"`
	Copies []registryCopy `json:"copies"`
}

// registryCopy is one group's copy.
type registryCopy struct {
	Group   uint64   `json:"group"`
	Replica uint64   `json:"replica"`
	Epoch   uint16   `json:"epoch"`
	Voters  []uint64 `json:"voters"`
	// Forgot is why the copy may lack what it promised. It stays until the copy
	// is replaced: the reason must outlive further restarts.
	Forgot string `json:"forgot,omitempty"`
}

func (c registryCopy) copy() Copy {
	return Copy{ReplicaID: c.Replica, Epoch: c.Epoch, Voters: c.Voters}
}

// loadRegistry returns nil if there is none.
func loadRegistry(fs vfs.FS, dir string) (*registry, error) {
	data, err := readFile(fs, fs.PathJoin(dir, registryFile))
	if err != nil || data == nil {
		return nil, err
	}
	body, sum := data, uint32(0)
	if head, rest, ok := bytes.Cut(data, []byte("\n")); ok {
		body = rest
		_, err = fmt.Sscanf(string(head), registryMagic+"%08x", &sum)
	} else {
		err = fmt.Errorf("no header")
	}
	if err == nil && crc32.Checksum(body, castagnoli) != sum {
		err = fmt.Errorf("checksum differs")
	}
	var r registry
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	if err != nil {
		return nil, &CorruptError{What: fmt.Sprintf("file %s", fs.PathJoin(dir, registryFile)), Err: err}
	}
	return &r, nil
}

func (r *registry) save(fs vfs.FS, dir string) error {
	body, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("raftlog: encode registry: %w", err)
	}
	head := fmt.Sprintf(registryMagic+"%08x\n", crc32.Checksum(body, castagnoli))
	return replaceFile(fs, dir, registryFile, append([]byte(head), body...))
}

func (r *registry) find(group uint64) *registryCopy {
	for i := range r.Copies {
		if r.Copies[i].Group == group {
			return &r.Copies[i]
		}
	}
	return nil
}

func (r *registry) put(group uint64, c Copy) {
	r.remove(group)
	r.Copies = append(r.Copies, registryCopy{Group: group, Replica: c.ReplicaID, Epoch: c.Epoch, Voters: c.Voters})
	slices.SortFunc(r.Copies, func(a, b registryCopy) int {
		if a.Group < b.Group {
			return -1
		}
		return 1
	})
}

func (r *registry) remove(group uint64) {
	r.Copies = slices.DeleteFunc(r.Copies, func(c registryCopy) bool { return c.Group == group })
}
