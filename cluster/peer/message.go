package peer

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// The form of a message, all numbers varints:
//
//	which fields follow (bits below), type,
//	the envelope's group, epoch, from, to,
//	the fields that are there, in the order of their bits,
//	if there are entries: their count, and for each: which fields follow, and
//	  of these type, term, index, length of the data, checksum (4 bytes),
//	the data of all entries but those with a checksum, one after the other,
//	the data of those with one, one after the other.
//
// So the data are the tail, and a sender appends them by reference. An entry has a
// checksum here if its data carries it (cluster.EntrySum) and the frame is an append
// frame. The frame's own checksum ends before the data of the first such entry: who
// receives them compares each with its checksum. Context and
// snapshot are a length and bytes. The message's own from and to are left out
// where they equal the envelope's, as they do but for MsgTransferLeader. The
// envelope's incarnation is the connection's.
const (
	hasTo         = 1 << iota // and it differs from the envelope's
	hasFrom                   // and it differs from the envelope's
	hasTerm                   //
	hasLogTerm                //
	hasIndex                  //
	hasCommit                 //
	hasVote                   //
	hasReject                 // no bytes: the value is isRejected
	isRejected                //
	hasRejectHint             //
	hasContext                //
	hasSnapshot               // protobuf
	hasEntries                //
	unknownFields             // the first bit without a meaning
)

const (
	entryType = 1 << iota
	entryTerm
	entryIndex
	entryData
	entrySum // the data carries its checksum, which is this
	unknownEntryFields
)

// maxEntries bounds the entries of a message: far above what fits
// MaxSizePerMsg, and low enough that a frame of empty ones is harmless.
const maxEntries = 1 << 16

// headSize is at least what appendHead will append for m.
func headSize(m *pb.Message) int {
	n := 128 + len(m.GetContext()) + 37*len(m.GetEntries())
	if m.GetSnapshot() != nil {
		n += 10 + proto.Size(m.GetSnapshot())
	}
	return n
}

// dataSize is the size of the data of m's entries.
func dataSize(m *pb.Message) int {
	n := 0
	for _, e := range m.GetEntries() {
		n += len(e.GetData())
	}
	return n
}

// appendHead appends all of m but the data of its entries; with the checksums that
// these carry if sums is set.
func appendHead(dst []byte, e cluster.Envelope, m *pb.Message, sums bool) ([]byte, error) {
	numbers := [...]struct {
		bit   uint64
		value *uint64
	}{
		{hasTo, m.To}, {hasFrom, m.From}, {hasTerm, m.Term}, {hasLogTerm, m.LogTerm},
		{hasIndex, m.Index}, {hasCommit, m.Commit}, {hasVote, m.Vote},
	}
	var fields uint64
	for i, n := range numbers {
		if n.value != nil && (i != 0 || *n.value != e.To) && (i != 1 || *n.value != e.From) {
			fields |= n.bit
		}
	}
	if m.Reject != nil {
		fields |= hasReject
		if *m.Reject {
			fields |= isRejected
		}
	}
	if m.RejectHint != nil {
		fields |= hasRejectHint
	}
	if m.Context != nil {
		fields |= hasContext
	}
	if m.Snapshot != nil {
		fields |= hasSnapshot
	}
	if len(m.Entries) > 0 {
		fields |= hasEntries
	}
	dst = binary.AppendUvarint(dst, fields)
	dst = binary.AppendUvarint(dst, uint64(m.GetType()))
	dst = binary.AppendUvarint(dst, e.Group)
	dst = binary.AppendUvarint(dst, uint64(e.Epoch))
	dst = binary.AppendUvarint(dst, e.From)
	dst = binary.AppendUvarint(dst, e.To)
	for _, n := range numbers {
		if fields&n.bit != 0 {
			dst = binary.AppendUvarint(dst, *n.value)
		}
	}
	if m.RejectHint != nil {
		dst = binary.AppendUvarint(dst, *m.RejectHint)
	}
	if m.Context != nil {
		dst = binary.AppendUvarint(dst, uint64(len(m.Context)))
		dst = append(dst, m.Context...)
	}
	if m.Snapshot != nil {
		b, err := proto.Marshal(m.Snapshot)
		if err != nil {
			return nil, fmt.Errorf("encode snapshot's description: %w", err)
		}
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		dst = append(dst, b...)
	}
	if len(m.Entries) > 0 {
		dst = appendEntryHeads(dst, m.Entries, sums)
	}
	return dst, nil
}

func appendEntryHeads(dst []byte, entries []*pb.Entry, sums bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for _, e := range entries {
		var fields byte
		if e.Type != nil {
			fields |= entryType
		}
		if e.Term != nil {
			fields |= entryTerm
		}
		if e.Index != nil {
			fields |= entryIndex
		}
		if e.Data != nil {
			fields |= entryData
		}
		sum, carried := uint32(0), false
		if sums {
			sum, carried = cluster.EntrySum(e)
		}
		if carried {
			fields |= entrySum
		}
		dst = append(dst, fields)
		if e.Type != nil {
			dst = binary.AppendUvarint(dst, uint64(*e.Type))
		}
		if e.Term != nil {
			dst = binary.AppendUvarint(dst, *e.Term)
		}
		if e.Index != nil {
			dst = binary.AppendUvarint(dst, *e.Index)
		}
		if e.Data != nil {
			dst = binary.AppendUvarint(dst, uint64(len(e.Data)))
		}
		if carried {
			dst = binary.LittleEndian.AppendUint32(dst, sum)
		}
	}
	return dst
}

// bodies yields the data of entries as they lie in an append frame: first those that
// the frame's checksum covers, then those that carry their own.
func bodies(entries []*pb.Entry) iter.Seq2[[]byte, bool] {
	return func(yield func(data []byte, carried bool) bool) {
		for _, want := range [...]bool{false, true} {
			for _, e := range entries {
				if _, carried := cluster.EntrySum(e); carried == want && !yield(e.GetData(), carried) {
					return
				}
			}
		}
	}
}

// appendMessage appends all of m, copying the data of its entries. The frame's
// checksum is to cover all of it.
func appendMessage(dst []byte, e cluster.Envelope, m *pb.Message) ([]byte, error) {
	dst, err := appendHead(dst, e, m, false)
	for _, entry := range m.GetEntries() {
		dst = append(dst, entry.GetData()...)
	}
	return dst, err
}

// decoder reads from b, and from bodies the data that carries its checksum. After
// the first error it reads zeros.
type decoder struct {
	b      []byte
	bodies []byte
	sums   bool // entries may carry checksums: the frame is an append frame
	err    error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: message: %s", ErrCorrupt, what)
	}
	d.b, d.bodies = nil, nil
}

func (d *decoder) uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(what)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte(what string) byte {
	if len(d.b) == 0 {
		d.fail(what)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// bytes returns the next n bytes, aliasing b, never nil.
func (d *decoder) bytes(n uint64, what string) []byte { return d.cut(&d.b, n, what) }

// cut returns the next n bytes of b, or of bodies.
func (d *decoder) cut(from *[]byte, n uint64, what string) []byte {
	if n > uint64(len(*from)) {
		d.fail(what)
		return []byte{}
	}
	v := (*from)[:n:n]
	*from = (*from)[n:]
	return v
}

// received is a message with room for the numbers it points to, so that decoding
// one costs one allocation.
type received struct {
	message             pb.Message
	kind                pb.MessageType
	to, from            uint64
	term, logTerm       uint64
	index, commit, vote uint64
	hint                uint64
	reject              bool
}

// receivedEntry is the same for an entry.
type receivedEntry struct {
	entry       pb.Entry
	kind        pb.EntryType
	term, index uint64
}

// decodeMessage reads one message that its frame's checksum covers, and returns what
// follows it. If alias, the message shares b, else it is a copy. The envelope has no
// incarnation yet.
func decodeMessage(b []byte, alias bool) (e cluster.Envelope, m *pb.Message, rest []byte, err error) {
	d := &decoder{b: b}
	e, m = d.message(alias)
	return e, m, d.b, d.err
}

// message reads one message.
func (d *decoder) message(alias bool) (e cluster.Envelope, m *pb.Message) {
	r := &received{}
	m = &r.message
	fields := d.uvarint("fields")
	if fields >= unknownFields {
		d.fail("fields that are not known")
	}
	kind := d.uvarint("type")
	if kind > math.MaxInt32 {
		d.fail("type")
	}
	r.kind = pb.MessageType(kind)
	m.Type = &r.kind
	e.Group = d.uvarint("group")
	epoch := d.uvarint("epoch")
	if epoch > math.MaxUint16 {
		d.fail("epoch")
	}
	e.Epoch = uint16(epoch)
	e.From, e.To = d.uvarint("from"), d.uvarint("to")
	r.to, r.from = e.To, e.From
	m.To, m.From = &r.to, &r.from
	r.numbers(d, fields)
	if fields&hasContext != 0 {
		m.Context = own(d.bytes(d.uvarint("context"), "context"), alias)
	}
	if fields&hasSnapshot != 0 {
		m.Snapshot = &pb.Snapshot{}
		body := d.bytes(d.uvarint("snapshot"), "snapshot")
		if d.err == nil && proto.Unmarshal(body, m.Snapshot) != nil {
			d.fail("snapshot")
		}
	}
	if fields&hasEntries != 0 {
		m.Entries = d.entries(alias)
	}
	return e, m
}

// end fails if no message is left and bodies are.
func (d *decoder) end() {
	if len(d.b) == 0 && len(d.bodies) > 0 {
		d.fail(fmt.Sprintf("%d bytes of entries that no message has", len(d.bodies)))
	}
}

// own returns b itself or a copy, which is not nil.
func own(b []byte, alias bool) []byte {
	if alias {
		return b
	}
	return append([]byte{}, b...)
}

// numbers reads the fields that are numbers.
func (r *received) numbers(d *decoder, fields uint64) {
	m := &r.message
	for _, n := range [...]struct {
		bit   uint64
		value *uint64
		field **uint64
	}{
		{hasTo, &r.to, &m.To}, {hasFrom, &r.from, &m.From}, {hasTerm, &r.term, &m.Term},
		{hasLogTerm, &r.logTerm, &m.LogTerm}, {hasIndex, &r.index, &m.Index},
		{hasCommit, &r.commit, &m.Commit}, {hasVote, &r.vote, &m.Vote},
		{hasRejectHint, &r.hint, &m.RejectHint},
	} {
		if fields&n.bit != 0 {
			*n.value = d.uvarint("number")
			*n.field = n.value
		}
	}
	if fields&hasReject != 0 {
		r.reject = fields&isRejected != 0
		m.Reject = &r.reject
	} else if fields&isRejected != 0 {
		d.fail("rejection")
	}
}

func (d *decoder) entries(alias bool) []*pb.Entry {
	count := d.uvarint("number of entries")
	// An entry takes a byte at least: no allocation without bytes behind it.
	if count == 0 || count > maxEntries || count > uint64(len(d.b)) {
		d.fail("number of entries")
		return nil
	}
	room := make([]receivedEntry, count)
	entries := make([]*pb.Entry, count)
	datas := make([]entryBody, 0, 64)
	for i := range room {
		r := &room[i]
		e := &r.entry
		entries[i] = e
		fields := d.byte("entry")
		if fields >= unknownEntryFields {
			d.fail("fields of an entry that are not known")
		}
		if fields&entryType != 0 {
			kind := d.uvarint("entry type")
			if kind > math.MaxInt32 {
				d.fail("entry type")
			}
			r.kind = pb.EntryType(kind)
			e.Type = &r.kind
		}
		if fields&entryTerm != 0 {
			r.term = d.uvarint("entry term")
			e.Term = &r.term
		}
		if fields&entryIndex != 0 {
			r.index = d.uvarint("entry index")
			e.Index = &r.index
		}
		datas = append(datas, d.entryBody(fields))
	}
	for i := range datas {
		if datas[i].there && d.err == nil {
			d.data(entries[i], &datas[i], alias)
		}
	}
	if d.err != nil {
		return nil
	}
	return entries
}

// entryBody is what a message says of the data of an entry.
type entryBody struct {
	there, carried bool
	length         uint64
	sum            uint32
}

func (d *decoder) entryBody(fields byte) (b entryBody) {
	if b.there = fields&entryData != 0; b.there {
		if b.length = d.uvarint("length of data"); b.length > MaxFrame {
			d.fail("length of data")
		}
	}
	if b.carried = fields&entrySum != 0; !b.carried {
		return b
	}
	if !b.there || !d.sums {
		d.fail("a checksum of an entry has no place here")
	}
	if sum := d.bytes(4, "checksum of an entry"); d.err == nil {
		b.sum = binary.LittleEndian.Uint32(sum)
	}
	return b
}

// data reads the data of an entry. What carries its checksum is compared with it,
// and nobody behind it does that again before it is read from a disk: so nothing may
// pass that only looks as if it carried one.
func (d *decoder) data(e *pb.Entry, b *entryBody, alias bool) {
	if !b.carried {
		e.Data = own(d.bytes(b.length, "data"), alias)
		if _, looks := cluster.EntrySum(e); looks && d.sums {
			d.fail("an entry carries a checksum that is not announced")
		}
		return
	}
	data := d.cut(&d.bodies, b.length, "data")
	if err := cluster.CheckEntry(data); d.err == nil && (err != nil || binary.LittleEndian.Uint32(data) != b.sum) {
		d.fail(fmt.Sprintf("entry %d of term %d has a wrong checksum, announced was %08x", e.GetIndex(), e.GetTerm(), b.sum))
		return
	}
	e.Data = own(data, alias)
}
