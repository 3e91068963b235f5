package fleet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Where free ports are looked for: below what systems give to connections that
// go out. A client that dials a dead server must not be given that very port and
// meet itself. They are given in blocks, the first port of which is the claim to
// the others.
const lowestPort, highestPort, blockPorts = 20_000, 32_000, 16

// claims are held until this process ends: a server that is restarted must find its
// port free, whoever looks for ports meanwhile.
var claims struct {
	sync.Mutex
	held []net.Listener
}

// FreePorts returns the ports of n servers: nobody uses them now, and while this
// process lives FreePorts gives them to nobody else on this machine.
func FreePorts(n int) ([]int, error) {
	var ports []int
	var last error
	for range 1000 {
		if len(ports) >= 3*n {
			return ports[:3*n], nil
		}
		first := lowestPort + blockPorts*rand.IntN((highestPort-lowestPort)/blockPorts)
		claim, err := listen(first)
		if err != nil {
			last = err
			continue
		}
		claims.Lock()
		claims.held = append(claims.held, claim)
		claims.Unlock()
		for port := first + 1; port < first+blockPorts; port++ {
			l, err := listen(port)
			if err != nil { // somebody who does not ask here has it
				last = err
				continue
			}
			if err := l.Close(); err != nil {
				return nil, fmt.Errorf("look for free ports: %w", err)
			}
			ports = append(ports, port)
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d on loopback: %w", 3*n, lowestPort, highestPort, last)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
