// Package lint holds the house rules as tests. It has no code of its own.
//
// `go test ./internal/lint` reads the whole repository, nested modules
// included, and names each place that breaks a rule together with what to do
// instead:
//
//   - layers: which package may import which of ours (layers_test.go);
//   - dependencies: which modules we use at all, and where (deps.txt);
//   - purity: no clock, chance, goroutine, file or socket in the packages that
//     run while entries are applied (rules_test.go);
//   - calls: no real sleep in a test, no skipped test, no fmt.Print and no
//     package-wide logger outside commands (rules_test.go);
//   - shape: package comments that go doc shows, package names, file length,
//     size of interfaces (shape_test.go).
//
// It does not judge what the compiler, go vet and staticcheck judge already,
// and it cannot see that a map is ranged over into state: the state hash and
// the simulator find that.
//
// A rule is changed here, in review, and not by an exception in the code: there
// are no comments that switch a rule off.
package lint
