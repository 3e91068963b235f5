package fleet

import "strings"

// forgotten is what a server says of a service that is fenced. There is no way
// back for such a service, so nobody may wait for one.
const forgotten = "may have forgotten"

// FencedError says that a server is up and all that keeps it from being ready
// is that services of it are fenced.
type FencedError struct {
	Server string
	Why    []string // a line for each service
}

func (e *FencedError) Error() string {
	return strings.ReplaceAll(e.Server+" is up and takes no part: "+strings.Join(e.Why, "; "), " cluster: ", " ")
}

// saysSuspended reports whether a line of a server says that a cluster is suspended.
// It stays so until an operator resumes it, and nobody may wait for that.
func saysSuspended(line string) bool {
	return strings.HasPrefix(line, "cluster ") && strings.Contains(line, " is suspended; ")
}

// fencedOnly reports whether nothing but fencing is the matter.
func fencedOnly(problems []string) bool {
	for _, p := range problems {
		if !strings.Contains(p, forgotten) {
			return false
		}
	}
	return len(problems) > 0
}

// FencedServers is the servers that are fenced where all others are ready, or
// where too few are left to wait for.
type FencedServers struct {
	Fenced []*FencedError
	Most   bool // of all servers
}

func (e *FencedServers) Error() string {
	texts := make([]string, len(e.Fenced))
	for i, f := range e.Fenced {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}
