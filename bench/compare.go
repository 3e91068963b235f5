package bench

import "fmt"

// Difference is one number of one load in two reports.
type Difference struct {
	Scenario string  `json:"scenario"`
	Load     string  `json:"load"`
	Unit     string  `json:"unit"` // the key of the number
	A        float64 `json:"a"`    // medians
	B        float64 `json:"b"`
	Ratio    float64 `json:"ratio"`  // B / A
	Better   bool    `json:"better"` // B is better than A
	// Apart says that every run of one was better than every run of the other.
	// It is false where there were not several runs of both.
	Apart bool `json:"apart"`
}

// Compare puts the numbers of equal loads side by side, in the order of a, and
// names the loads that only one of the two has. It is an error if there is no
// equal load.
func Compare(a, b []*Summary) (all []Difference, alone []string, err error) {
	left := append([]*Summary(nil), b...)
	for _, x := range a {
		found := false
		for i, y := range left {
			if y != nil && sameLoad(x.Figures, y.Figures) {
				all = append(all, differences(x, y)...)
				left[i], found = nil, true
				break
			}
		}
		if !found {
			alone = append(alone, x.name())
		}
	}
	for _, y := range left {
		if y != nil {
			alone = append(alone, y.name())
		}
	}
	if len(all) == 0 {
		err = fmt.Errorf("no load is in both, compare runs with the same flags: the one has %s, the other %s", firstOf(a), firstOf(b))
	}
	return all, alone, err
}

// firstOf describes a list by its first load.
func firstOf(list []*Summary) string {
	switch len(list) {
	case 0:
		return "none"
	case 1:
		return list[0].name()
	}
	return fmt.Sprintf("%s (and %d more)", list[0].name(), len(list)-1)
}

// name is a scenario with its load.
func (s *Summary) name() string { return s.Scenario + ": " + s.Describe() }

func differences(a, b *Summary) []Difference {
	var list []Difference
	from, to := a.Numbers(), b.Numbers()
	for _, key := range keys(&a.Figures, &b.Figures) {
		x, y := from[key], to[key]
		if isCount(key) || x == 0 && y == 0 || (x == 0 || y == 0) && zeroIsUnknown(key) {
			continue
		}
		better := y < x
		if Higher(key) {
			better = y > x
		}
		list = append(list, Difference{
			Scenario: a.Scenario, Load: a.Describe(), Unit: key, A: x, B: y,
			Ratio: rounded(ratio(y, x)), Better: better, Apart: apart(a, b, key),
		})
	}
	return list
}

// apart tells whether the ranges of a number do not touch.
func apart(a, b *Summary, key string) bool {
	if a.Runs < 2 || b.Runs < 2 {
		return false
	}
	return a.Max[key] < b.Min[key] || b.Max[key] < a.Min[key]
}
