package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/perdure/perdure/bench/limit/child"
)

const (
	// queued bounds the frames that wait for the disk or for a follower. It is
	// more than all windows together; a sender waits when it is full.
	queued = 256
	// together is how many frames share one sync at most.
	together = 64
)

// server is A, B or C: A has followers. What it cannot do ends the process.
type server struct {
	disk      chan item
	followers []chan item
	appended  chan progress // what the disk and each follower have

	// order is held while a frame enters all queues: one order for all. Who holds
	// it may wait for a full queue, so what empties queues never takes it.
	order struct {
		sync.Mutex
		last uint64 // number of the last frame that came
	}
	// waiting is locked last.
	waiting struct {
		sync.Mutex
		origins []origin // of frames that are not confirmed, oldest first
	}
}

// origin is where a frame came from, and its number there.
type origin struct {
	conn   net.Conn
	number uint64
}

// progress says that one of the three has appended everything up to a number.
type progress struct {
	who    int // 0 is our own disk
	number uint64
}

// serve is the program as a server. It prints its address when it is ready.
func serve(args []string) error {
	child.Follow()
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	file := flags.String("file", "", "segment to write")
	size := flags.Int64("size", segmentSize, "bytes of the segment")
	sync := flags.Bool("sync", false, "fdatasync before a batch counts as appended")
	peers := flags.String("followers", "", "addresses of the followers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	seg, err := openSegment(*file, *size, *sync)
	if err != nil {
		return err
	}
	s := &server{disk: make(chan item, queued), appended: make(chan progress, queued)}
	if *peers != "" {
		for i, address := range strings.Split(*peers, ",") {
			if err := s.follow(i+1, address); err != nil {
				return err
			}
		}
	}
	go s.writeDisk(seg)
	go s.confirm()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go s.receive(conn)
	}
}

// must ends the process: a server that lost a batch has nothing more to say.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "limit: server:", err)
		os.Exit(1)
	}
}

// follow connects to a follower: frames go out, acknowledgements come in.
func (s *server) follow(who int, address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	out := make(chan item, queued)
	s.followers = append(s.followers, out)
	go func() {
		for i := range out {
			must(writeFrame(conn, i.number, i.batch))
			i.done()
		}
	}()
	go func() {
		r := bufio.NewReader(conn)
		for {
			number, err := readAck(r)
			must(err)
			s.appended <- progress{who, number}
		}
	}()
	return nil
}

// receive takes frames from one connection until it ends.
func (s *server) receive(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 256<<10)
	for {
		number, batch, err := readFrame(r)
		if err != nil {
			_ = conn.Close()
			return
		}
		s.order.Lock()
		s.order.last++
		i := newItem(s.order.last, batch, 1+len(s.followers))
		s.waiting.Lock()
		s.waiting.origins = append(s.waiting.origins, origin{conn, number})
		s.waiting.Unlock()
		for _, f := range s.followers {
			f <- i
		}
		s.disk <- i
		s.order.Unlock()
	}
}

// writeDisk appends all that waits at once, and syncs once for it.
func (s *server) writeDisk(seg *segment) {
	items := make([]item, 0, together)
	for first := range s.disk {
		items = append(items[:0], first)
	more:
		for len(items) < together {
			select {
			case i := <-s.disk:
				items = append(items, i)
			default:
				break more
			}
		}
		must(seg.append(items))
		s.appended <- progress{0, items[len(items)-1].number}
		for _, i := range items {
			i.done()
		}
	}
}

// confirm answers every connection with what a majority has appended.
func (s *server) confirm() {
	has := make([]uint64, 1+len(s.followers))
	var confirmed uint64
	for p := range s.appended {
		has[p.who] = p.number
	more:
		for {
			select {
			case p := <-s.appended:
				has[p.who] = p.number
			default:
				break more
			}
		}
		if m := majority(has); m > confirmed {
			s.answer(int(m - confirmed))
			confirmed = m
		}
	}
}

// majority is the number up to which more than half have everything.
func majority(has []uint64) uint64 {
	sorted := slices.Sorted(slices.Values(has))
	return sorted[(len(sorted)-1)/2]
}

// answer acknowledges the n oldest frames that wait, with one acknowledgement
// for each connection.
func (s *server) answer(n int) {
	last := make(map[net.Conn]uint64, 4)
	s.waiting.Lock()
	for _, o := range s.waiting.origins[:n] {
		last[o.conn] = o.number
	}
	s.waiting.origins = append(s.waiting.origins[:0], s.waiting.origins[n:]...)
	s.waiting.Unlock()
	for conn, number := range last {
		_ = writeAck(conn, number) // a client that went away needs none
	}
}
