package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// publisher is one client connection with a window of batches.
type publisher struct {
	conn      net.Conn
	body      []byte
	per       int           // messages in a batch
	slots     chan struct{} // holds one token for each batch on its way
	confirmed atomic.Int64  // messages
	timed     atomic.Bool   // whether the times of batches are kept
	stopped   atomic.Bool   // errors are to be expected
	done      sync.WaitGroup
	times     []time.Duration // owned by publish, which done counts
}

func connect(address string, l load) (*publisher, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the pipeline: %w", err)
	}
	pub := &publisher{conn: conn, body: make([]byte, l.Size), per: 1, slots: make(chan struct{}, l.window)}
	for i := range pub.body {
		pub.body[i] = byte(i * 31) // not all zeros: nothing is to gain from that
	}
	if !l.oneByOne() {
		pub.per = max(1, l.batch/(l.Size+binary.MaxVarintLen16))
	}
	pub.done.Add(1)
	return pub, nil
}

// close ends publish. It may be called twice.
func (pub *publisher) close() {
	pub.stopped.Store(true)
	_ = pub.conn.Close()
}

// finish ends publish, waits for it and returns the times it kept.
func (pub *publisher) finish() []time.Duration {
	pub.close()
	pub.done.Wait()
	return pub.times
}

// publish sends batches until close: as many as the window allows or, one
// message at a time, the next when the last is confirmed.
func (pub *publisher) publish(l load) error {
	defer pub.done.Done()
	work := pub.stream
	if l.oneByOne() {
		work = pub.oneByOne
	}
	if err := work(); !pub.stopped.Load() {
		return err
	}
	return nil
}

func (pub *publisher) stream() error {
	read := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		err := pub.release()
		close(ended)
		read <- err
	}()
	var batch []byte
	var err error
	for number := uint64(1); err == nil; number++ {
		select {
		case pub.slots <- struct{}{}:
			batch = pub.fill(batch[:0])
			err = writeFrame(pub.conn, number, batch)
		case <-ended:
			err = net.ErrClosed
		}
	}
	_ = pub.conn.Close() // so that release ends as well
	return errors.Join(err, <-read)
}

// release gives slots back as batches are confirmed, until the connection ends.
func (pub *publisher) release() error {
	r := bufio.NewReader(pub.conn)
	for last := uint64(0); ; {
		number, err := readAck(r)
		if err != nil {
			return err
		}
		for ; last < number; last++ {
			<-pub.slots
			pub.confirmed.Add(int64(pub.per))
		}
	}
}

func (pub *publisher) oneByOne() error {
	r := bufio.NewReader(pub.conn)
	var batch []byte
	for number := uint64(1); ; number++ {
		began := time.Now()
		batch = pub.fill(batch[:0])
		if err := writeFrame(pub.conn, number, batch); err != nil {
			return err
		}
		if _, err := readAck(r); err != nil {
			return err
		}
		pub.confirmed.Add(1)
		if pub.timed.Load() {
			pub.times = append(pub.times, time.Since(began))
		}
	}
}

// fill makes a batch of equal messages, as a client would: length and bytes of
// each, and a checksum over all.
func (pub *publisher) fill(batch []byte) []byte {
	for range pub.per {
		batch = binary.AppendUvarint(batch, uint64(len(pub.body)))
		batch = append(batch, pub.body...)
	}
	_ = crc32.Checksum(batch, castagnoli)
	return batch
}
