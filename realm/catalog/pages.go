package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Page keys: one byte of kind, then the id or number in big endian order.
const metaKey = "m"

func revisionKey(number uint64) string { return pageKey('r', number) }
func clusterKey(id uint64) string      { return pageKey('c', id) }
func endpointKey(id uint64) string     { return pageKey('e', id) }
func serverKey(id uint64) string       { return pageKey('s', id) }

func pageKey(kind byte, id uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{kind}, id))
}

// pageHash is what a page adds to the hash of the state.
func pageHash(key string, value []byte) uint64 {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(key))))
	h.Write([]byte(key))
	h.Write(value)
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

// put makes value the content of a page.
func (m *Machine) put(key string, value proto.Message) { m.putBytes(key, encode(value)) }

func (m *Machine) putBytes(key string, value []byte) {
	old, had := m.pages[key]
	if had && bytes.Equal(old, value) {
		return
	}
	if had {
		m.hash -= pageHash(key, old)
	}
	m.hash += pageHash(key, value)
	m.pages[key] = value
	m.touch(key)
}

func (m *Machine) remove(key string) {
	if old, had := m.pages[key]; had {
		m.hash -= pageHash(key, old)
		delete(m.pages, key)
		m.touch(key)
	}
}

func (m *Machine) touch(key string) {
	m.dirty[key] = struct{}{}
	m.view = nil
}

func (m *Machine) putMeta() { m.put(metaKey, m.meta) }

func (m *Machine) putClaims(cluster uint64) {
	if cluster == RealmGroup {
		m.putMeta()
		return
	}
	m.put(clusterKey(cluster), m.clusterByID(cluster))
}

// Changed yields the pages that changed since it was last called, a nil value
// for a page that is gone. What it yields is not to be changed, and may be
// kept.
func (m *Machine) Changed(yield func(key, value []byte)) {
	for _, key := range slices.Sorted(maps.Keys(m.dirty)) {
		yield([]byte(key), m.pages[key])
	}
	clear(m.dirty)
}

// Hash returns the hash of the state.
func (m *Machine) Hash() uint64 { return m.hash }

// Undecodable returns how many commands were none.
func (m *Machine) Undecodable() uint64 { return m.meta.GetUndecodable() }

// Reset empties the state.
func (m *Machine) Reset() {
	*m = Machine{
		meta:  &statepb.CatalogMeta{},
		pages: map[string][]byte{},
		dirty: map[string]struct{}{},
	}
}

// LoadPage takes back a page that Changed yielded. It copies what it keeps.
func (m *Machine) LoadPage(key, value []byte) error {
	if err := m.load(key, value); err != nil {
		return fmt.Errorf("catalog: page %x: %w; the state is damaged, replace this replica", key, err)
	}
	k := string(key)
	if _, twice := m.pages[k]; twice {
		return fmt.Errorf("catalog: page %x is there twice; the state is damaged, replace this replica", key)
	}
	m.pages[k] = bytes.Clone(value)
	m.hash += pageHash(k, value)
	return nil
}

func (m *Machine) load(key, value []byte) error {
	if string(key) == metaKey {
		return proto.Unmarshal(value, m.meta)
	}
	if len(key) != 9 {
		return fmt.Errorf("is of no kind that this version knows")
	}
	var err error
	var id uint64
	switch key[0] {
	case 'r':
		var p statepb.CatalogRevision
		err, id = proto.Unmarshal(value, &p), p.GetNumber()
		m.revisions = append(m.revisions, Revision{
			Number: p.GetNumber(), Stamp: p.GetStamp(), File: p.GetFile(), Document: p.GetDocument(),
		})
		if m.newest.GetNumber() < id {
			m.newest = &p
		}
	case 'c':
		p := &statepb.CatalogCluster{}
		err, id = proto.Unmarshal(value, p), p.GetId()
		m.clusters = append(m.clusters, p)
	case 'e':
		p := &statepb.CatalogEndpoint{}
		err, id = proto.Unmarshal(value, p), p.GetId()
		m.endpoints = append(m.endpoints, p)
	case 's':
		p := &statepb.CatalogServer{}
		err, id = proto.Unmarshal(value, p), p.GetId()
		m.servers = append(m.servers, p)
	default:
		return fmt.Errorf("is of no kind that this version knows")
	}
	if err != nil {
		return err
	}
	if want := binary.BigEndian.Uint64(key[1:]); id != want {
		return fmt.Errorf("holds id %d", id)
	}
	return nil
}
