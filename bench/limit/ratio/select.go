package ratio

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Selection says which loads are wanted. The zero value wants all.
type Selection struct{ choices [][]string }

// ParseSelection reads what follows --only: choices separated by commas, each of
// words joined by slashes that must all be true of a load, such as "publish",
// "publish/1024/sync" or "nats/drain". A word is a scenario, a size, a
// durability or a peer; known lists all that there are.
func ParseSelection(text string, known []string) (Selection, error) {
	var s Selection
	if text == "" {
		return s, nil
	}
	for choice := range strings.SplitSeq(text, ",") {
		words := strings.Split(choice, "/")
		for _, w := range words {
			if !slices.Contains(known, w) {
				return Selection{}, fmt.Errorf("--only %s: there is no %q; there are: %s", text, w, strings.Join(known, " "))
			}
		}
		s.choices = append(s.choices, words)
	}
	return s, nil
}

// Wants tells whether a load against a peer is selected.
func (s Selection) Wants(l Load, peer string) bool {
	if len(s.choices) == 0 {
		return true
	}
	is := []string{l.Scenario, strconv.Itoa(l.Size), l.Durability, peer}
	return slices.ContainsFunc(s.choices, func(words []string) bool {
		for _, w := range words {
			if !slices.Contains(is, w) {
				return false
			}
		}
		return true
	})
}
