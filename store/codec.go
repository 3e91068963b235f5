package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// Contents of pages are sequences of unsigned varints, of the shortest form,
// and of texts with their length before them. Signed times are stored as they
// are: they are never negative.

func putText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func putInts(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func flags(bits ...bool) (v uint64) {
	for i, b := range bits {
		if b {
			v |= 1 << i
		}
	}
	return v
}

var errDecode = errors.New("does not decode")

// decoder reads what putInts and putText wrote. After an error everything is
// zero, and err says so.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) int(limit uint64) uint64 {
	v, used := durable.Uvarint(d.b)
	if used <= 0 || v > limit {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[used:]
	return v
}

func (d *decoder) uint64() uint64 { return d.int(math.MaxUint64) }
func (d *decoder) uint32() uint32 { return uint32(d.int(math.MaxUint32)) }
func (d *decoder) time() int64    { return int64(d.int(math.MaxInt64)) }

func (d *decoder) text() string {
	n := d.uint64()
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// end reports what went wrong, bytes left over included.
func (d *decoder) end() error {
	if d.failed || len(d.b) > 0 {
		return errDecode
	}
	return nil
}

func (m *meta) appendTo(dst []byte) []byte {
	dst = putInts(dst, uint64(m.time), uint64(m.running), m.term, m.revision, m.session, m.dynamic, m.used, m.invalid)
	if m.suspended { // else the page ends, as it did in versions that knew no suspension
		dst = putInts(dst, 1)
	}
	return dst
}

func (m *meta) decode(b []byte) error {
	d := decoder{b: b}
	*m = meta{time: d.time(), running: d.time(), term: d.uint64(), revision: d.uint64(),
		session: d.uint64(), dynamic: d.uint64(), used: d.uint64(), invalid: d.uint64()}
	if len(d.b) > 0 {
		m.suspended = d.uint64() == 1
		d.failed = d.failed || !m.suspended
	}
	return d.end()
}

func (s *storeState) appendTo(dst []byte) []byte {
	p := &s.spec
	dst = putText(dst, p.name)
	dst = putInts(dst, p.byteLimit, p.messageLimit, p.maxMessage, flags(p.noconfirm), uint64(p.dynamicLimit),
		uint64(s.epoch), s.counter, s.index.next, uint64(len(p.templates)))
	for _, t := range p.templates {
		dst = putInts(putText(dst, t.Name), uint64(t.Kind), uint64(t.Prefetch))
	}
	return dst
}

func (s *storeState) decode(b []byte) error {
	d := decoder{b: b}
	p := &s.spec
	p.name = d.text()
	p.byteLimit, p.messageLimit, p.maxMessage = d.uint64(), d.uint64(), d.uint64()
	p.noconfirm = d.int(1) == 1
	p.dynamicLimit = d.uint32()
	s.epoch = uint16(d.int(math.MaxUint16))
	s.counter = d.int(message.MaxCounter)
	s.index.next = d.uint64()
	for n := d.uint64(); n > 0 && !d.failed; n-- {
		p.templates = append(p.templates, Template{Name: d.text(), Kind: durable.Kind(d.int(255)), Prefetch: d.uint32()})
	}
	return d.end()
}

func (d *durableState) appendTo(dst []byte) []byte {
	dst = putInts(dst, d.store.id, uint64(d.options.Kind), flags(d.dynamic, d.handing), uint64(d.options.Prefetch))
	dst = putText(putText(putText(dst, d.name), d.options.Matcher), d.template)
	dst = putInts(dst, uint64(d.watermark), d.matched, d.acked, d.number, d.attach.Number, d.attach.Process, d.attach.Nonce)
	return d.marks.AppendTo(dst)
}

// decode reads all but the store, whose id it returns.
func (d *durableState) decode(b []byte) (store uint64, err error) {
	r := decoder{b: b}
	store = r.uint64()
	o := durable.Options{Kind: durable.Kind(r.int(255))}
	bits := r.int(3)
	d.dynamic, d.handing = bits&1 != 0, bits&2 != 0
	o.Prefetch = r.uint32()
	d.name, o.Matcher, d.template = r.text(), r.text(), r.text()
	d.watermark = message.ID(r.uint64())
	d.matched, d.acked, d.number = r.uint64(), r.uint64(), r.uint64()
	d.attach = Attachment{Number: r.uint64(), Process: r.uint64(), Nonce: r.uint64()}
	if r.failed {
		return 0, errDecode
	}
	if r.b, err = d.marks.Load(r.b); err != nil {
		return 0, err
	}
	if d.options, d.matcher, err = o.Canonical(); err != nil {
		return 0, err
	}
	if d.options != o {
		return 0, errDecode // not what appendTo writes
	}
	return store, r.end()
}

func (x *session) appendTo(dst []byte) []byte {
	dst = putInts(dst, x.store, x.last, uint64(x.attempt), flags(x.closed, x.late), uint64(x.active), x.used, uint64(len(x.outcomes)))
	for n := len(x.outcomes); n > 0; n-- {
		o := &x.outcomes[(x.last-uint64(n))%maxOutcomes]
		dst = putInts(dst, uint64(o.first), uint64(o.count), flags(o.interested), o.sum)
	}
	return dst
}

func (x *session) decode(b []byte) error {
	d := decoder{b: b}
	x.store, x.last = d.uint64(), d.uint64()
	x.attempt = d.uint32()
	bits := d.int(3)
	x.closed, x.late = bits&1 != 0, bits&2 != 0
	x.active, x.used = d.time(), d.uint64()
	n := d.int(maxOutcomes)
	if n != min(x.last, maxOutcomes) {
		return errDecode
	}
	x.outcomes = make([]outcome, n)
	for ; n > 0; n-- {
		o := &x.outcomes[(x.last-n)%maxOutcomes]
		o.first, o.count = message.ID(d.uint64()), d.uint32()
		o.interested, o.sum = d.int(1) == 1, d.uint64()
	}
	return d.end()
}

// appendTo stores ids, entries and stamps as differences: they ascend.
func (p *indexPage) appendTo(dst []byte) []byte {
	if p.batches == nil {
		return append(dst, p.closed...)
	}
	var next, entry, stamp uint64
	for i := range p.batches {
		b := &p.batches[i]
		dst = putInts(dst, uint64(b.first)-next, b.entry-entry, uint64(b.count), uint64(b.offset), uint64(b.bytes), uint64(b.stamp)-stamp, b.live)
		next, entry, stamp = uint64(b.last())+1, b.entry, uint64(b.stamp)
	}
	return dst
}

// decodeBatches appends the batches that appendTo encoded, without a check.
func decodeBatches(b []byte, dst []batch) []batch {
	var next, entry, stamp uint64
	more := func() uint64 {
		v, used := binary.Uvarint(b)
		b = b[used:]
		return v
	}
	for len(b) > 0 {
		first := next + more()
		entry += more()
		n := batch{first: message.ID(first), entry: entry, count: uint32(more()), offset: uint32(more()), bytes: uint32(more())}
		stamp += more()
		n.stamp, n.live = int64(stamp), more()
		next = uint64(n.last()) + 1
		dst = append(dst, n)
	}
	return dst
}

// head returns the id of the first message of a closed page.
func (p *indexPage) head() message.ID {
	first, _ := binary.Uvarint(p.closed)
	return message.ID(first)
}

// loadPage returns the page, closed, that b encodes.
func loadPage(number uint64, b []byte) (*indexPage, error) {
	d := decoder{b: b}
	p := &indexPage{number: number, closed: bytes.Clone(b)}
	var next, entry, stamp uint64
	for len(d.b) > 0 {
		gap, more := d.uint64(), d.uint64()
		count := uint64(d.uint32())
		d.uint32()
		d.uint32()
		later, live := d.uint64(), d.uint64()
		first := next + gap
		if d.failed || first < next || first == 0 || count == 0 || first+count < first || live == 0 || p.count == pageBatches ||
			entry+more < entry || later > math.MaxInt64-stamp {
			return nil, errDecode
		}
		next, entry, stamp = first+count, entry+more, stamp+later
		p.count++
		p.last = message.ID(next - 1)
	}
	if p.count == 0 {
		return nil, errDecode
	}
	return p, d.end()
}
