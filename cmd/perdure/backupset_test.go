package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClusterFiles(t *testing.T) {
	got := clusterFiles([]string{"main", "Main", "é", ".hidden", "a/b", strings.Repeat("x", 120), "cluster-8", "manifest.json", "cluster-3"})
	want := []string{"main.state", "cluster-2.state", "cluster-3.state", "cluster-4.state", "cluster-5.state", "cluster-6.state", "cluster-8.state", "manifest.json.state", "cluster-9.state"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func exampleSet() *backupSet {
	sum := strings.Repeat("0f", 32)
	return &backupSet{
		Format: setFormat, Version: "v", Made: time.Unix(1_790_000_000, 0).UTC(), Realm: "demo", Revision: 3,
		File: setFile{setRealm, 10, sum},
		Clusters: []backupCluster{
			{Name: "main", setFile: setFile{"main.state", 1000, sum}, Applied: 7, StateHash: "ab", Messages: 5},
			{Name: "é", setFile: setFile{"cluster-2.state", 2000, sum}, Applied: 8, StateHash: "cd", Messages: 6},
		},
	}
}

func TestSetIsReadBack(t *testing.T) {
	s := exampleSet()
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseSet(b)
	if err != nil || got.File != s.File || !slices.Equal(got.Clusters, s.Clusters) || !got.Made.Equal(s.Made) || got.Realm != s.Realm || got.Revision != s.Revision {
		t.Errorf("%+v, %v", got, err)
	}
	if id := s.File.loadID(); id != 0x0f0f0f0f0f0f0f0f {
		t.Errorf("load %x", id)
	}
	zero := setFile{SHA256: strings.Repeat("00", 32)}
	if zero.loadID() == 0 {
		t.Error("a load without a name")
	}
}

// What a list names is opened: nothing but bare names of files.
func TestSetRefused(t *testing.T) {
	for name, spoil := range map[string]func(*backupSet){
		"newer":          func(s *backupSet) { s.Format++ },
		"no format":      func(s *backupSet) { s.Format = 0 },
		"path":           func(s *backupSet) { s.Clusters[0].setFile.Name = "../main.state" },
		"absolute":       func(s *backupSet) { s.File.Name = "/etc/passwd" },
		"hidden":         func(s *backupSet) { s.File.Name = ".realm" },
		"empty":          func(s *backupSet) { s.File.Name = "" },
		"itself":         func(s *backupSet) { s.File.Name = setList },
		"file twice":     func(s *backupSet) { s.Clusters[1].setFile.Name = "main.state" },
		"cluster twice":  func(s *backupSet) { s.Clusters[1].Name = "main" },
		"nameless":       func(s *backupSet) { s.Clusters[1].Name = "" },
		"sum of letters": func(s *backupSet) { s.File.SHA256 = "xyz" },
		"short sum":      func(s *backupSet) { s.File.SHA256 = "0f" },
	} {
		s := exampleSet()
		spoil(s)
		b, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseSet(b); err == nil {
			t.Errorf("%s: it is accepted", name)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"format":1,"more":1}`, strings.Repeat(" ", maxSetList+1)} {
		if _, err := parseSet([]byte(text)); err == nil {
			t.Errorf("%.20q is accepted", text)
		}
	}
}

// The definition that is copied is the one by which the clusters were, or there is no
// backup.
func TestBackupIsOfOneDefinition(t *testing.T) {
	gone := errors.New("cluster gone")
	for _, tc := range []struct {
		began, ended []uint64
		fails        error // the first time
		want         string
		times        int
	}{
		{began: []uint64{3}, ended: []uint64{3}, times: 1},
		{began: []uint64{3, 4}, ended: []uint64{4, 4}, times: 2},
		{began: []uint64{3, 4}, ended: []uint64{4, 4}, fails: gone, times: 2},
		{began: []uint64{3}, ended: []uint64{3}, fails: gone, want: "cluster gone", times: 1},
		{began: []uint64{0}, fails: gone, want: "cluster gone", times: 1},
		{began: []uint64{1, 2, 3, 4, 5}, ended: []uint64{2, 3, 4, 5, 6}, want: "another realm definition", times: 5},
	} {
		times := 0
		err := steady(func() (uint64, error) {
			times++
			if times == 1 {
				return tc.began[0], tc.fails
			}
			return tc.began[times-1], nil
		}, func() (uint64, error) { return tc.ended[times-1], nil })
		if times != tc.times || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %d times, %v", tc, times, err)
		}
	}
}

func TestSetFileChecked(t *testing.T) {
	f := setFile{"x", 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"} // of hello
	read := 0
	if err := f.check(strings.NewReader("hello"), func(n int) { read += n }); err != nil || read != 5 {
		t.Errorf("%v after %d bytes", err, read)
	}
	for _, other := range []string{"hellO", "hello!", "hell", ""} {
		if err := f.check(strings.NewReader(other), func(int) {}); err == nil {
			t.Errorf("%q is taken for it", other)
		}
	}
}
