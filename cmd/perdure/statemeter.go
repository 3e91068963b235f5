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
			m.loading, m.began, m.what = true, time.Now(), "loaded"
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

func (m *stateMeter) show() {
	var sum client.StateProgress
	for _, f := range m.files {
		sum.Bytes, sum.Messages, sum.TotalMessages = sum.Bytes+f.Bytes, sum.Messages+f.Messages, sum.TotalMessages+f.TotalMessages
	}
	text := fmt.Sprintf("%s %s", m.what, bytesText(sum.Bytes))
	switch {
	case sum.TotalMessages > 0:
		text += fmt.Sprintf(", %s of %s", grouped(sum.Messages), countOf(sum.TotalMessages, "message"))
	case sum.Messages > 0:
		text += ", " + countOf(sum.Messages, "message")
	}
	if took := time.Since(m.began).Seconds(); took > 0 {
		text += fmt.Sprintf(", %s/s", bytesText(uint64(float64(sum.Bytes)/took)))
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
