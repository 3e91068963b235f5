// Package realm is the definition of a realm: which clusters, services, stores,
// durables, templates and endpoints exist.
//
// A definition is one YAML or JSON document. [Parse] reads it strictly, finds
// everything that is wrong with it at once, each [Problem] with its place and
// with what to do, and fills in the defaults, so that what it returns is
// complete. [Diff] says what going from one definition to another does, and
// [CheckChange] what of that is not possible. [Marshal] writes the canonical
// document: equal definitions give equal bytes.
//
// # Guarantees
//
//   - Parse never panics, whatever the bytes. Documents above [MaxDocument]
//     bytes are refused unread. A usual document takes about a second for each
//     megabyte; a hostile one can take time with the square of its length, so
//     nothing that others wait for may call it.
//   - A Realm without errors is consistent: every reference is resolved, every
//     name is valid and unique where it must be, every number is in its range.
//   - Everything here is deterministic: no clock, no randomness, and no order
//     that depends on a map. package catalog replicates what this package
//     decides.
//
// # What it does not do
//
// It gives no ids, keeps no revisions (package catalog does), and knows nothing
// of a server's own configuration, which is read elsewhere.
//
// # Sizes and durations
//
// A size is a whole number of bytes or text such as 64k, 512MB or 1GiB: with an
// i the unit is a power of 1,024, without it a power of 1,000, and case does not
// matter. A duration is text with a unit, such as 50ms or 1m30s.
package realm
