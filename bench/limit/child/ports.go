package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Where free ports are looked for: below what systems give to connections that
// go out.
const lowestPort, highestPort = 20_000, 32_000

// FreePorts returns n ports of loopback that nobody uses now.
func FreePorts(n int) (ports []int, err error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			err = errors.Join(err, l.Close())
		}
	}()
	for tries := 0; len(ports) < n; tries++ {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil && tries > 1000 {
			return nil, fmt.Errorf("%d free ports between %d and %d on loopback: %w", n, lowestPort, highestPort, err)
		}
		if err == nil {
			held, ports = append(held, l), append(ports, port)
		}
	}
	return ports, nil
}
