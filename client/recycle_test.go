package client

import "testing"

// TestBuffersOfLargeBatchesAreUsedAgain publishes batches of 256 KiB, whose memory
// is a little larger.
func TestBuffersOfLargeBatchesAreUsedAgain(t *testing.T) {
	p := &Publisher{cfg: publisherConfig{batchTarget: 256 << 10, windowBatches: 8, windowBytes: 8 * 256 << 10}}
	p.mu.win = newWindow(p.cfg.windowBatches, p.cfg.windowBytes)
	for round := range 8 {
		for p.mu.open.Size() < p.cfg.batchTarget {
			if err := p.mu.open.AddBody(make([]byte, 128)); err != nil {
				t.Fatal(err)
			}
		}
		p.mu.opening = newBatch()
		if !p.seal() {
			t.Fatal("an empty window has no room")
		}
		p.mu.win.take()
		p.recycle(p.mu.win.confirm())
		// It takes a few batches to learn what memory they need.
		if round > 3 && len(p.mu.buffers) == 0 {
			t.Errorf("the memory of batch %d is not used again", round)
		}
	}
}
