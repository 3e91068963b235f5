package realm

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// didYouMean returns what to do about a word that none of the candidates is.
// what is how the candidates are called, in the plural.
func didYouMean(word, what string, candidates []string) string {
	candidates = slices.DeleteFunc(slices.Clone(candidates), func(s string) bool { return s == "" })
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	if len(candidates) == 0 {
		return fmt.Sprintf("there are no %s, so define one or remove this", what)
	}
	best, distance := "", 1+min(max(2, utf8.RuneCountInString(word)/3), 5)
	for _, c := range candidates[:min(len(candidates), 1000)] {
		if d := editDistance(strings.ToLower(word), strings.ToLower(c), distance); d < distance {
			best, distance = c, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return fmt.Sprintf("%s are %s", what, list(candidates))
}

// list joins words for people, the first ten of them.
func list(words []string) string {
	shown := make([]string, 0, 11)
	for i, w := range words {
		if i == 10 {
			shown = append(shown, "...")
			break
		}
		shown = append(shown, quote(w))
	}
	return strings.Join(shown, ", ")
}

// oneLine keeps what others wrote, such as a library's message, on one line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// editDistance counts the insertions, deletions, substitutions and exchanges of
// neighbours that turn a into b. It gives up, with bound, when there are bound
// or more: words can be long.
func editDistance(a, b string, bound int) int {
	s, t := []rune(a), []rune(b)
	if abs(len(s)-len(t)) >= bound {
		return bound
	}
	before, previous, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		if slices.Min(row) >= bound {
			return bound
		}
		before, previous, row = previous, row, before
	}
	return min(previous[len(t)], bound)
}

func abs(n int) int { return max(n, -n) }
