package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/perdure/perdure/client"
)

// stateMeter shows how far state files are: on a terminal in one line that is
// written over, elsewhere a line a second. Several goroutines may tell it.
type stateMeter struct {
	w        io.Writer
	terminal bool
	what     string // was done with what is counted

	mu      sync.Mutex
	files   map[string]client.StateProgress
	loading bool
	began   time.Time // of what is done now
	base    uint64    // bytes that were done then
	last    uint64    // that were shown
	shown   time.Time
	open    bool // the line
}

func (p *program) newStateMeter(what string) *stateMeter {
	now := time.Now()
	return &stateMeter{w: p.stderr, terminal: isTerminal(p.stderr), what: what, files: map[string]client.StateProgress{}, began: now, shown: now}
}

// of returns what is told of one of the files.
func (m *stateMeter) of(file string) func(client.StateProgress) {
	return func(now client.StateProgress) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.files[file] = now
		if now.Loading && !m.loading {
			m.loading, m.began, m.base, m.what = true, time.Now(), m.sum().Bytes, "loaded"
		}
		interval := time.Second
		if m.terminal {
			interval /= 10
		}
		if time.Since(m.shown) >= interval {
			m.shown = time.Now()
			m.show()
		}
	}
}

// sum adds up all files.
func (m *stateMeter) sum() (sum client.StateProgress) {
	for _, f := range m.files {
		sum.Bytes, sum.Messages, sum.TotalMessages = sum.Bytes+f.Bytes, sum.Messages+f.Messages, sum.TotalMessages+f.TotalMessages
	}
	return sum
}

// rateAfter is how long something must have been done for its rate to mean anything.
const rateAfter = time.Second / 2

func (m *stateMeter) show() {
	sum := m.sum()
	text := fmt.Sprintf("%s %s", m.what, bytesText(sum.Bytes))
	switch {
	case sum.TotalMessages > 0:
		text += fmt.Sprintf(", %s of %s", grouped(sum.Messages), countOf(sum.TotalMessages, "message"))
	case sum.Messages > 0:
		text += ", " + countOf(sum.Messages, "message")
	}
	if sum.Bytes < m.last { // it began anew
		m.began, m.base = time.Now(), sum.Bytes
	}
	m.last = sum.Bytes
	if took := time.Since(m.began); took >= rateAfter {
		text += fmt.Sprintf(", %s/s", bytesText(uint64(float64(sum.Bytes-m.base)/took.Seconds())))
	}
	if m.terminal {
		fmt.Fprint(m.w, clearLine+text)
		m.open = true
		return
	}
	fmt.Fprintln(m.w, text)
}

// end takes the line back.
func (m *stateMeter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open {
		fmt.Fprint(m.w, clearLine)
		m.open = false
	}
}
