package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// ErrView means that bytes are no encoded view, or a damaged one.
var ErrView = errors.New("catalog: not a view, or a damaged one; fetch it from a core server again")

// An encoded view is viewMagic, the CRC32C of the rest in little endian order,
// and a statepb.CatalogView.
const viewMagic = "PRV1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type page struct {
	key   string
	value []byte
}

// viewPages returns the pages of a view: all but old revisions.
func (m *Machine) viewPages() []page {
	newest := revisionKey(m.meta.GetRevision())
	var out []page
	for _, key := range slices.Sorted(maps.Keys(m.pages)) {
		if key[0] != 'r' || key == newest {
			out = append(out, page{key, m.pages[key]})
		}
	}
	return out
}

// Encode returns the view for the wire or for a file. Of the revisions it has
// the newest only.
func (v *View) Encode() []byte {
	var message statepb.CatalogView
	for _, p := range v.pages {
		message.Pages = append(message.Pages, &statepb.CatalogPage{Key: []byte(p.key), Value: p.value})
	}
	body := encode(&message)
	out := make([]byte, 0, len(viewMagic)+4+len(body))
	out = append(out, viewMagic...)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

// DecodeView reads what Encode wrote. b is not kept. Errors wrap ErrView.
func DecodeView(b []byte) (*View, error) {
	if len(b) < len(viewMagic)+4 || string(b[:len(viewMagic)]) != viewMagic {
		return nil, ErrView
	}
	body := b[len(viewMagic)+4:]
	if binary.LittleEndian.Uint32(b[len(viewMagic):]) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: its checksum differs", ErrView)
	}
	var message statepb.CatalogView
	if err := proto.Unmarshal(body, &message); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrView, err)
	}
	m := New()
	for _, p := range message.GetPages() {
		if err := m.LoadPage(p.GetKey(), p.GetValue()); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrView, err)
		}
	}
	if err := m.Loaded(0); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrView, err)
	}
	return m.View(), nil
}
