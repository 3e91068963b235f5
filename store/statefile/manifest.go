package statefile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/perdure/perdure/message"
)

// Manifest says what a file holds. It is the first block, so that reading it
// does not mean reading the file.
type Manifest struct {
	Cluster    string `json:"cluster"`
	Revision   uint64 `json:"realm_revision"`
	Definition string `json:"definition,omitempty"` // of the cluster, as the realm had it
	Epoch      uint64 `json:"epoch"`                // of the cluster
	Term       uint64 `json:"term"`
	Applied    uint64 `json:"applied"`      // the log entry at which the state was taken
	Time       int64  `json:"cluster_time"` // of that entry, nanoseconds since 1970
	Summary
}

// Summary is the part of a manifest that follows from the records.
type Summary struct {
	StateHash   string         `json:"state_hash"`
	LastSession uint64         `json:"last_session"` // id of the session opened last
	Sessions    uint64         `json:"sessions"`
	Stores      []StoreSummary `json:"stores"`
}

// StoreSummary is what a manifest says of a store.
type StoreSummary struct {
	Name     string           `json:"name"`
	Epoch    uint16           `json:"epoch"`
	LastID   message.ID       `json:"last_id"`
	Batches  uint64           `json:"batches"`
	Messages uint64           `json:"messages"` // in these batches
	Bytes    uint64           `json:"bytes"`    // of these batches
	Durables []DurableSummary `json:"durables"`
}

// DurableSummary is what a manifest says of a durable.
type DurableSummary struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Dynamic bool   `json:"dynamic,omitempty"`
	Pending uint64 `json:"pending"`
	Matched uint64 `json:"matched"`
	Acked   uint64 `json:"acked"`
	Counted uint64 `json:"counted,omitempty"` // messages with a delivery count
}

// Totals adds up what a manifest says of the stores.
func (s *Summary) Totals() (batches, messages, bytes, pending uint64) {
	for i := range s.Stores {
		st := &s.Stores[i]
		batches, messages, bytes = batches+st.Batches, messages+st.Messages, bytes+st.Bytes
		for _, d := range st.Durables {
			pending += d.Pending
		}
	}
	return batches, messages, bytes, pending
}

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", " ")
	if err == nil && (len(b) > maxManifest || bytes.Count(b, comma) > maxMembers) {
		err = fmt.Errorf("statefile: the manifest has %d bytes and %d members, at most %d and %d are allowed",
			len(b), bytes.Count(b, comma), maxManifest, maxMembers)
	}
	return b, err
}

// maxMembers is how many commas a manifest may have: an element of a list takes a
// few bytes as text, and a hundred times as much once it is read.
const maxMembers = 1 << 20

var comma = []byte(",")

// decodeManifest refuses members that it does not know: they may change what
// the others mean.
func decodeManifest(b []byte) (*Manifest, error) {
	if n := bytes.Count(b, comma); n > maxMembers {
		return nil, fmt.Errorf("%d members, at most %d are allowed", n, maxMembers)
	}
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("something follows the manifest")
	}
	return m, nil
}
