// Package server is one Perdure process: it joins the parts and speaks the
// protocols.
//
// It opens three listeners (clients by gRPC, other servers by frames, operators
// by HTTP), takes part in the realm (formation, the realm group's replica on core
// servers, watching it elsewhere), and reconciles what runs here with what the
// realm says: services are claimed, started, given their definition and removed.
//
// Handlers are thin: decode, check, call, encode. A publish stream turns batches
// into proposals of the group that leads the store; a subscribe stream attaches
// to the service's dispatch and sends what it hands out, reading bodies from the
// log. Errors get their stable reason here and nowhere else.
//
// # Guarantees
//
//   - A publish is confirmed after its entry was applied on this server, which
//     led then.
//   - What waits for a client is bounded by its window or its credit; a client
//     that does not read holds up nobody else. One that neither speaks nor reads
//     is given up, and what it held goes to others at once.
//   - A batch is judged before it enters the log: from then on everything in it
//     decodes. One that is refused closes its attempt there, in its place.
//   - Every error has a reason and a status code, and says whether trying again
//     can help. A panic in a handler costs that client's call alone.
//   - A server that stops gives leadership away first and names the next leader.
//   - /readyz and gRPC's health answer from the same look at the state.
//   - An empty directory never takes the place of one that held data: claims, and
//     the formation, notice it.
//   - Close joins every goroutine that Open started.
//
// # What it does not do
//
// It has no TLS, authentication or authorization yet; it therefore listens on
// loopback only, unless told otherwise. It does not re-admit fenced services.
package server
