package store

import (
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
	return putInts(dst, uint64(m.time), uint64(m.running), m.term, m.revision, m.session, m.dynamic, m.used, m.invalid)
}

func (m *meta) decode(b []byte) error {
	d := decoder{b: b}
	*m = meta{time: d.time(), running: d.time(), term: d.uint64(), revision: d.uint64(),
		session: d.uint64(), dynamic: d.uint64(), used: d.uint64(), invalid: d.uint64()}
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
	dst = putInts(dst, x.store, x.last, uint64(x.attempt), flags(x.closed), uint64(x.active), x.used, uint64(len(x.outcomes)))
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
	x.closed = d.int(1) == 1
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

// appendTo stores ids and entries as differences: they ascend.
func (p *indexPage) appendTo(dst []byte) []byte {
	var first, entry uint64
	for i := range p.batches {
		b := &p.batches[i]
		dst = putInts(dst, uint64(b.first)-first, b.entry-entry, uint64(b.count), uint64(b.offset), uint64(b.bytes), uint64(b.stamp), b.live)
		first, entry = uint64(b.first), b.entry
	}
	return dst
}

func (p *indexPage) decode(b []byte) error {
	d := decoder{b: b}
	var first, entry uint64
	p.batches = make([]batch, 0, pageBatches)
	for len(d.b) > 0 {
		first += d.uint64()
		entry += d.uint64()
		n := batch{first: message.ID(first), entry: entry, count: d.uint32(), offset: d.uint32(), bytes: d.uint32(), stamp: d.time(), live: d.uint64()}
		if d.failed || n.first == 0 || n.count == 0 || n.live == 0 || len(p.batches) == pageBatches {
			return errDecode
		}
		if k := len(p.batches); k > 0 && p.batches[k-1].last() >= n.first {
			return errDecode
		}
		p.batches = append(p.batches, n)
	}
	if len(p.batches) == 0 {
		return errDecode
	}
	return d.end()
}
