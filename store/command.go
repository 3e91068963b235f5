package store

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// Kinds of commands: the first byte. They are in the log for ever.
const (
	kindPublish   = 1 // store u64, session u64, attempt u32, sequence u64, batch
	kindSettle    = 2 // durable u64, then first u64, last u64 for each range
	kindRelease   = 3 // durable u64, counted u8, then ranges
	kindWatermark = 4 // durable u64, id u64
	kindLoadPart  = 5 // load u64, number u64, section u8, records u32, content of a block

	// From here on protobuf of api/state/v1.
	kindOpenSession   = 16
	kindCloseSession  = 17
	kindCreateDurable = 18
	kindDeleteDurable = 19
	kindAttach        = 20
	kindDetach        = 21
	kindDeploy        = 22
	kindChecksum      = 23
	kindTick          = 24
	kindSuspend       = 25
	kindResume        = 26
	kindLoadBegin     = 27
	kindLoadCommit    = 28
	kindLoadAbort     = 29
)

// Lengths of what comes before batch and ranges. All numbers of the fixed
// commands are little endian, as in batches.
const (
	publishHeader = 1 + 8 + 8 + 4 + 8
	settleHeader  = 1 + 8
	releaseHeader = 1 + 8 + 1
	watermarkLen  = 1 + 8 + 8
	partHeader    = 1 + 8 + 8 + 1 + 4
	rangeLen      = 16
)

// known reports whether this version can apply commands of a kind.
func known(kind byte) bool {
	return kind >= kindPublish && kind <= kindLoadPart || kind >= kindOpenSession && kind <= kindLoadAbort
}

// Range is the ids from First to Last, both included.
type Range struct{ First, Last message.ID }

func (r Range) String() string { return fmt.Sprintf("[%v,%v]", r.First, r.Last) }

// AppendPublish appends a Publish: store batch under (session, attempt,
// sequence). Session 0 means that nobody remembers: every call is new, which
// the edge allows for noconfirm stores only.
func AppendPublish(dst []byte, store, session uint64, attempt uint32, sequence uint64, batch []byte) []byte {
	dst = AppendPublishHeader(dst, store, session, attempt, sequence)
	return append(dst, batch...)
}

// PublishHeaderLen is what a Publish is longer than its batch.
const PublishHeaderLen = publishHeader

// AppendPublishHeader appends what comes before the batch in a Publish.
func AppendPublishHeader(dst []byte, store, session uint64, attempt uint32, sequence uint64) []byte {
	le := binary.LittleEndian
	dst = append(dst, kindPublish)
	dst = le.AppendUint64(dst, store)
	dst = le.AppendUint64(dst, session)
	dst = le.AppendUint32(dst, attempt)
	return le.AppendUint64(dst, sequence)
}

// AppendSettle appends a Settle: nobody will ask durable for ranges any more.
// Settling what is not pending is a success without effect.
func AppendSettle(dst []byte, durable uint64, ranges []Range) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindSettle), durable)
	return appendRanges(dst, ranges)
}

// AppendRelease appends a Release: deliveries of ranges have ended without an
// acknowledgement. counted adds one to the ended deliveries of each message.
func AppendRelease(dst []byte, durable uint64, ranges []Range, counted bool) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindRelease), durable)
	if counted {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	return appendRanges(dst, ranges)
}

// AppendWatermark appends a Watermark: the leader may deliver up to id.
func AppendWatermark(dst []byte, durable uint64, id message.ID) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindWatermark), durable)
	return binary.LittleEndian.AppendUint64(dst, uint64(id))
}

func appendRanges(dst []byte, ranges []Range) []byte {
	for _, r := range ranges {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.First))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Last))
	}
	return dst
}

// AppendOpenSession appends an OpenSession: the result's Session is new, and above a
// number that the leader takes from its clock: so a publisher of one cluster does not
// find the session of another, whose state was loaded there.
func AppendOpenSession(dst []byte, store uint64, epoch uint16, above uint64) []byte {
	return appendProto(dst, kindOpenSession, &statepb.OpenSession{Store: store, Epoch: uint32(epoch), Above: above})
}

// AppendCloseSession appends a CloseSession.
func AppendCloseSession(dst []byte, session uint64) []byte {
	return appendProto(dst, kindCloseSession, &statepb.CloseSession{Session: session})
}

// AppendCreateDurable appends a CreateDurable.
func AppendCreateDurable(dst []byte, c *statepb.CreateDurable) []byte {
	return appendProto(dst, kindCreateDurable, c)
}

// AppendDeleteDurable appends a DeleteDurable.
func AppendDeleteDurable(dst []byte, durable uint64) []byte {
	return appendProto(dst, kindDeleteDurable, &statepb.DeleteDurable{Durable: durable})
}

// AppendAttach appends an Attach. process names the client process and nonce
// the subscription, both drawn by the client; the same pair twice is the same
// attachment.
func AppendAttach(dst []byte, durable, process, nonce uint64) []byte {
	return appendProto(dst, kindAttach, &statepb.Attach{Durable: durable, Process: process, Nonce: nonce})
}

// AppendDetach appends a Detach of the attachment with that number.
func AppendDetach(dst []byte, durable, attach uint64) []byte {
	return appendProto(dst, kindDetach, &statepb.Detach{Durable: durable, Attach: attach})
}

// AppendDeploy appends a Deploy.
func AppendDeploy(dst []byte, d *statepb.Deploy) []byte { return appendProto(dst, kindDeploy, d) }

// AppendChecksum appends a Checksum. index and hash are what
// [Machine.Checksum] says of an earlier one; 0, 0 if there is none.
func AppendChecksum(dst []byte, index, hash uint64) []byte {
	return appendProto(dst, kindChecksum, &statepb.Checksum{Index: index, Hash: hash})
}

// AppendTick appends a Tick. keep are sessions whose publishers are connected
// though idle.
func AppendTick(dst []byte, keep []uint64) []byte {
	return appendProto(dst, kindTick, &statepb.Tick{Keep: keep})
}

// AppendSuspend appends a Suspend. grace is how long the leader waits for
// acknowledgements of what was delivered, in nanoseconds.
func AppendSuspend(dst []byte, grace int64) []byte {
	return appendProto(dst, kindSuspend, &statepb.Suspend{GraceMs: uint64(grace / 1e6)})
}

// AppendSuspendUnused appends a Suspend that is refused with NotEmpty if a store has
// been used: whoever finds the cluster suspended by it finds nothing in it.
func AppendSuspendUnused(dst []byte, grace int64) []byte {
	return appendProto(dst, kindSuspend, &statepb.Suspend{GraceMs: uint64(grace / 1e6), Unused: true})
}

// AppendResume appends a Resume.
func AppendResume(dst []byte) []byte { return appendProto(dst, kindResume, &statepb.Resume{}) }

// AppendLoadBegin appends a LoadBegin. The result's Last is the number of the part
// that is wanted next: 0, but where the same load goes on.
func AppendLoadBegin(dst []byte, c *statepb.LoadBegin) []byte {
	return appendProto(dst, kindLoadBegin, c)
}

// LoadPartHeaderLen is what a LoadPart is longer than the content of its block.
const LoadPartHeaderLen = partHeader

// AppendLoadPart appends a LoadPart: the content of a block of a saved state. The
// blocks behind the manifest are parts 0, 1 and so on. A part may come twice.
func AppendLoadPart(dst []byte, load, number uint64, b *statefile.Block) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindLoadPart), load)
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = binary.LittleEndian.AppendUint32(append(dst, byte(b.Section)), b.Count)
	return append(dst, b.Content...)
}

// AppendLoadCommit appends a LoadCommit of a load of so many parts.
func AppendLoadCommit(dst []byte, load, parts uint64) []byte {
	return appendProto(dst, kindLoadCommit, &statepb.LoadCommit{Load: load, Parts: parts})
}

// AppendLoadAbort appends a LoadAbort.
func AppendLoadAbort(dst []byte, load uint64) []byte {
	return appendProto(dst, kindLoadAbort, &statepb.LoadAbort{Load: load})
}

func appendProto(dst []byte, kind byte, m proto.Message) []byte {
	dst = append(dst, kind)
	out, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	if err != nil {
		// Only text that is not UTF-8 does this. A zero does not decode, so the
		// command is answered with Invalid.
		return append(dst, 0)
	}
	return out
}

// publication is a decoded Publish.
type publication struct {
	store, session, sequence uint64
	attempt                  uint32
	batch                    []byte
}

func decodePublish(c []byte) (p publication, ok bool) {
	if len(c) < publishHeader {
		return p, false
	}
	le := binary.LittleEndian
	p = publication{
		store:    le.Uint64(c[1:]),
		session:  le.Uint64(c[9:]),
		attempt:  le.Uint32(c[17:]),
		sequence: le.Uint64(c[21:]),
		batch:    c[publishHeader:],
	}
	return p, p.session == 0 || p.sequence > 0
}

// Command describes a command for logs, dumps and tests; it decodes no batch.
func Command(c []byte) string {
	if len(c) == 0 {
		return "empty command"
	}
	le := binary.LittleEndian
	switch {
	case c[0] == kindPublish:
		if p, ok := decodePublish(c); ok {
			return fmt.Sprintf("publish store=%d session=%d attempt=%d sequence=%d bytes=%d", p.store, p.session, p.attempt, p.sequence, len(p.batch))
		}
	case c[0] == kindSettle && len(c) >= settleHeader:
		return fmt.Sprintf("settle durable=%d ranges=%d", le.Uint64(c[1:]), (len(c)-settleHeader)/rangeLen)
	case c[0] == kindRelease && len(c) >= releaseHeader:
		return fmt.Sprintf("release durable=%d counted=%d ranges=%d", le.Uint64(c[1:]), c[9], (len(c)-releaseHeader)/rangeLen)
	case c[0] == kindWatermark && len(c) == watermarkLen:
		return fmt.Sprintf("watermark durable=%d id=%v", le.Uint64(c[1:]), message.ID(le.Uint64(c[9:])))
	case c[0] == kindLoadPart && len(c) >= partHeader:
		return fmt.Sprintf("load part load=%016x number=%d section=%v bytes=%d", le.Uint64(c[1:]), le.Uint64(c[9:]), statefile.Section(c[17]), len(c)-partHeader)
	case c[0] >= kindOpenSession && known(c[0]):
		if m := newRare(c[0]); proto.Unmarshal(c[1:], m) == nil {
			return fmt.Sprintf("%s %v", m.ProtoReflect().Descriptor().Name(), m)
		}
	}
	return fmt.Sprintf("command of kind %d, %d bytes", c[0], len(c))
}

// newRare returns an empty message for a kind that is protobuf.
func newRare(kind byte) proto.Message {
	switch kind {
	case kindOpenSession:
		return new(statepb.OpenSession)
	case kindCloseSession:
		return new(statepb.CloseSession)
	case kindCreateDurable:
		return new(statepb.CreateDurable)
	case kindDeleteDurable:
		return new(statepb.DeleteDurable)
	case kindAttach:
		return new(statepb.Attach)
	case kindDetach:
		return new(statepb.Detach)
	case kindDeploy:
		return new(statepb.Deploy)
	case kindChecksum:
		return new(statepb.Checksum)
	case kindSuspend:
		return new(statepb.Suspend)
	case kindResume:
		return new(statepb.Resume)
	case kindLoadBegin:
		return new(statepb.LoadBegin)
	case kindLoadCommit:
		return new(statepb.LoadCommit)
	case kindLoadAbort:
		return new(statepb.LoadAbort)
	default:
		return new(statepb.Tick)
	}
}
