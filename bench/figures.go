package bench

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Usage is what servers have used. Differences of two are what a run used,
// except for memory.
type Usage struct {
	Servers int           // processes that run
	CPU     time.Duration // user and system, all of them
	Written int64         // bytes written to disk, less cancelled, all of them
	RSS     int64         // anonymous memory, bytes, of the largest
	PeakRSS int64         // resident memory at its greatest since the process began, bytes, of the largest
}

func (u *Usage) add(v Usage) {
	u.Servers += v.Servers
	u.CPU += v.CPU
	u.Written += v.Written
	u.RSS = max(u.RSS, v.RSS)
	u.PeakRSS = max(u.PeakRSS, v.PeakRSS)
}

// Figures is what a run measured, and of which load. Times are microseconds.
type Figures struct {
	Scenario   string  `json:"scenario"`
	Messages   int64   `json:"messages"` // confirmed, or received by each durable
	Seconds    float64 `json:"seconds"`
	MsgsPerSec float64 `json:"msgs_per_s"`
	MBPerSec   float64 `json:"mb_per_s"` // of bodies, 1 MB = 1,000,000 bytes

	P50      int64 `json:"p50_us"` // publish to confirmation
	P99      int64 `json:"p99_us"`
	Max      int64 `json:"max_us"`
	Measured int64 `json:"measured"` // times that these are of

	ReceiveP50      int64 `json:"receive_p50_us,omitempty"` // publish to receive
	ReceiveP99      int64 `json:"receive_p99_us,omitempty"`
	ReceiveMax      int64 `json:"receive_max_us,omitempty"`
	ReceiveMeasured int64 `json:"receive_measured,omitempty"`

	ServersCPU     float64 `json:"servers_cpu_s_per_million"` // all servers; 0 where unknown
	ClientsCPU     float64 `json:"clients_cpu_s_per_million"` // this process
	WrittenPerByte float64 `json:"written_per_byte"`          // to the disk of each server, per byte of body; 0 where unknown

	// Of all servers, as they count; 0 where they did not answer.
	Fsyncs           int64   `json:"fsyncs"`
	FsyncsPerMillion float64 `json:"fsyncs_per_million"`
	Allocs           float64 `json:"allocs_per_message"`
	AllocBytes       float64 `json:"alloc_bytes_per_message"`

	PeakRSS  int64 `json:"peak_rss"`      // resident, bytes, of the largest server; since it was started
	PeakAnon int64 `json:"peak_rss_anon"` // anonymous, bytes, of the largest server; as seen

	Interested bool   `json:"interested"` // whether something kept the messages
	Durability string `json:"durability"`
	Size       int    `json:"size,omitempty"`
	Servers    int    `json:"servers,omitempty"` // 0 where unknown
	Publishers int    `json:"publishers,omitempty"`
	Window     int    `json:"window,omitempty"`
	Batch      int    `json:"batch,omitempty"`
	Together   int    `json:"together,omitempty"`
	Sync       bool   `json:"sync"`
	Rate       int    `json:"rate,omitempty"`
	Workers    int    `json:"workers,omitempty"`
	Durables   int    `json:"durables,omitempty"`
	Matchers   int    `json:"matchers,omitempty"`
	Clusters   int    `json:"clusters,omitempty"`
	Backlog    int    `json:"backlog,omitempty"`
	Prefetch   int    `json:"prefetch,omitempty"`
	Fast       bool   `json:"fast,omitempty"`

	Count    int     `json:"count,omitempty"`      // of a load that goes by it
	Duration float64 `json:"duration_s,omitempty"` // of one that goes by time
	Warmup   float64 `json:"warmup_s,omitempty"`   // before it

	// More has what only this scenario measures.
	More map[string]float64 `json:"more,omitempty"`

	// Times and ReceiveTimes are what the percentiles are of, microseconds.
	Times        *hdrhistogram.Histogram `json:"-"`
	ReceiveTimes *hdrhistogram.Histogram `json:"-"`
}

// moment is the state of everything that is counted, at one time.
type moment struct {
	at       time.Time
	messages int64
	servers  Usage
	clients  time.Duration
	counts   Counts
	counted  bool  // counts is known
	when     int64 // messages that were done when the servers had been asked
}

// rates fills in what follows from two moments.
func (f *Figures) rates(from, to moment) {
	seconds := to.at.Sub(from.at).Seconds()
	f.Messages = to.messages - from.messages
	f.Seconds = rounded(seconds)
	f.MsgsPerSec = math.Round(ratio(float64(f.Messages), seconds))
	f.MBPerSec = rounded(ratio(float64(f.Messages)*float64(f.Size)/1e6, seconds))
	millions := float64(f.Messages) / 1e6
	f.ServersCPU = rounded(ratio((to.servers.CPU - from.servers.CPU).Seconds(), millions))
	f.ClientsCPU = rounded(ratio((to.clients - from.clients).Seconds(), millions))
	// Where a server was killed, or started, it has written all the same.
	servers := max(from.servers.Servers, to.servers.Servers)
	payload := float64(f.Messages) * float64(f.Size) * float64(servers)
	f.WrittenPerByte = rounded(ratio(float64(to.servers.Written-from.servers.Written), payload))
	f.PeakRSS = to.servers.PeakRSS
	if from.counted && to.counted {
		done := to.counts.minus(from.counts)
		messages := float64(to.when - from.when) // asking takes its time
		f.Fsyncs = int64(done.Fsyncs)
		f.FsyncsPerMillion = rounded(ratio(float64(done.Fsyncs), messages/1e6))
		f.Allocs = rounded(ratio(float64(done.Objects), messages))
		f.AllocBytes = rounded(ratio(float64(done.Bytes), messages))
	}
}

// percentiles fills in what follows from the histograms.
func (f *Figures) percentiles() {
	if h := f.Times; h != nil {
		f.P50, f.P99, f.Max, f.Measured = h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.Max(), h.TotalCount()
	}
	if h := f.ReceiveTimes; h != nil {
		f.ReceiveP50, f.ReceiveP99, f.ReceiveMax, f.ReceiveMeasured = h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.Max(), h.TotalCount()
	}
}

// longest is the longest time that is told apart; longer ones count as it.
const longest = 10 * time.Minute

// newTimes returns a histogram of microseconds with three digits.
func newTimes() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), 3)
}

// record adds a time.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	// Within the bounds it cannot fail.
	_ = h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds())
}

// ratio is 0 where there is nothing to divide by.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// rounded keeps three digits after the point: there is no more to measure.
func rounded(f float64) float64 { return math.Round(f*1000) / 1000 }
