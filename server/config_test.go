package server

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// load loads a configuration as the command line does. file is YAML, "" for
// none.
func load(t *testing.T, file string, environ []string, args ...string) (Config, error) {
	t.Helper()
	f := pflag.NewFlagSet("server", pflag.ContinueOnError)
	Flags(f)
	if file != "" {
		path := filepath.Join(t.TempDir(), "server.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = slices.Concat(args, []string{"--config", path})
	}
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(f, environ)
}

// enough is what every configuration needs, here that of an auxiliary server.
var enough = []string{"--name", "s1", "--data", "/data", "--core", "s9=127.0.0.1:1"}

// settings are all keys, with a default and three values that can be told apart.
var settings = []struct {
	key                  string
	field                func(*Config) any
	def, file, env, flag string
}{
	{"name", func(c *Config) any { return c.Name }, "", "file", "env", "flag"},
	{"data", func(c *Config) any { return c.Data }, "", "/file", "/env", "/flag"},
	{"state_dir", func(c *Config) any { return c.StateDir }, "", "/file", "/env", "/flag"},
	{"load", func(c *Config) any { return c.Load }, "false", "true", "false", "true"},
	{"listen_client", func(c *Config) any { return c.ListenClient }, "127.0.0.1:7400", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"},
	{"listen_peer", func(c *Config) any { return c.ListenPeer }, "127.0.0.1:7401", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"},
	{"listen_ops", func(c *Config) any { return c.ListenOps }, "127.0.0.1:7402", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"},
	{"advertise_client", func(c *Config) any { return c.AdvertiseClient }, "", "a:1", "b:1", "c:1"},
	{"advertise_peer", func(c *Config) any { return c.AdvertisePeer }, "", "a:1", "b:1", "c:1"},
	{"core", func(c *Config) any { return c.Core }, "", "f=127.0.0.1:1", "e=127.0.0.1:1", "g=127.0.0.1:1"},
	{"region", func(c *Config) any { return c.Region }, "", "file", "env", "flag"},
	{"insecure", func(c *Config) any { return c.Insecure }, "false", "true", "false", "true"},
	{"log_level", func(c *Config) any { return c.LogLevel }, "info", "debug", "warn", "error"},
	{"log_format", func(c *Config) any { return c.LogFormat }, "text", "json", "text", "json"},
	{"allow_network_filesystem", func(c *Config) any { return c.NetworkFS }, "false", "true", "false", "true"},
}

func text(v any) string {
	if b, ok := v.(bool); ok {
		return map[bool]string{true: "true", false: "false"}[b]
	}
	return v.(string)
}

// File < environment < flag, for every key there is.
func TestPrecedence(t *testing.T) {
	if n := reflect.TypeFor[Config]().NumField(); n != len(settings) {
		t.Fatalf("%d keys, %d in this test", n, len(settings))
	}
	for _, s := range settings {
		flag := "--" + strings.ReplaceAll(s.key, "_", "-") + "="
		env := "PERDURE_" + strings.ToUpper(s.key) + "="
		file := s.key + ": '" + s.file + "'\n"
		base := []string{}
		for i := 0; i < len(enough); i += 2 {
			if enough[i]+"=" != flag {
				base = append(base, enough[i], enough[i+1])
			}
		}
		for _, tc := range []struct {
			source, file string
			environ      []string
			args         []string
			want         string
		}{
			{"default", "", nil, base, s.def},
			{"file", file, nil, base, s.file},
			{"environment", file, []string{env + s.env}, base, s.env},
			{"flag", file, []string{env + s.env}, slices.Concat(base, []string{flag + s.flag}), s.flag},
			{"flag over file", file, nil, slices.Concat(base, []string{flag + s.flag}), s.flag},
			{"environment alone", "", []string{"HOME=/root", env + s.env}, base, s.env},
		} {
			if tc.want == "" && tc.source == "default" && len(base) < len(enough) {
				continue // a key that must be given
			}
			c, err := load(t, tc.file, tc.environ, tc.args...)
			if err != nil {
				t.Errorf("%s from %s: %v", s.key, tc.source, err)
			} else if got := text(s.field(&c)); got != tc.want {
				t.Errorf("%s from %s: %q, want %q", s.key, tc.source, got, tc.want)
			}
		}
	}
}

func TestConfigFileOfTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(path, []byte(`{"region": "north"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, "", []string{"PERDURE_CONFIG=" + path}, enough...)
	if err != nil || c.Region != "north" {
		t.Errorf("region %q: %v", c.Region, err)
	}
	// A flag names another file.
	if c, err = load(t, "region: south", []string{"PERDURE_CONFIG=" + path}, enough...); err != nil || c.Region != "south" {
		t.Errorf("region %q: %v", c.Region, err)
	}
}

// Everything that is wrong is said at once, with what to do.
func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    []string
	}{
		{"nothing given", "", nil, nil, []string{"name: ", "set --name", "data: ", "set --data", "core: ", "set --core"}},
		{"unknown key", "lisen_client: 127.0.0.1:1\n", nil, enough, []string{`unknown key "lisen_client"`, `did you mean "listen_client"?`}},
		{"nested key", "log:\n  level: debug\n", nil, enough, []string{`unknown key "log.level"`, `"log_level"`}},
		{"unknown variable", "", []string{"PERDURE_LOG_LEVLE=debug"}, enough, []string{"PERDURE_LOG_LEVLE", `did you mean "PERDURE_LOG_LEVEL"?`}},
		{"no such file", "", nil, append([]string{"--config", "/nowhere.yaml"}, enough...), []string{"/nowhere.yaml does not exist"}},
		{"no YAML", "name: [", nil, enough, []string{"server.yaml"}},
		{"no address", "", nil, append([]string{"--listen-ops", "7402"}, enough...), []string{`--listen-ops: "7402" is not HOST:PORT`}},
		{"beyond loopback", "", nil, append([]string{"--listen-client", "0.0.0.0:7400"}, enough...), []string{"--listen-client: 0.0.0.0:7400", "--insecure"}},
		{"all interfaces", "", nil, append([]string{"--listen-peer", ":7401"}, enough...), []string{"--listen-peer: :7401", "--insecure"}},
		{"a name", "", nil, append([]string{"--listen-ops", "example.org:7402"}, enough...), []string{"--listen-ops: example.org:7402"}},
		{"log level", "", nil, append([]string{"--log-level", "loud", "--log-format", "xml"}, enough...), []string{`--log-level: "loud"`, `--log-format: "xml"`}},
		{"reserved name", "", nil, append(enough, "--name", "_s1"), []string{"name: ", "'_'"}},
		{"no boolean", "Insecure: perhaps\n", nil, enough, []string{"config: ", "server.yaml: Insecure: ", `"perhaps" is neither true nor false`}},
		{"no boolean variable", "", []string{"PERDURE_INSECURE=perhaps"}, enough, []string{`PERDURE_INSECURE: "perhaps" is neither true nor false`}},
		{"a number", "name: 7\n", nil, enough, []string{"server.yaml: name: 7 is no text; write it in quotes"}},
		{"a boolean", "region: true\n", nil, enough, []string{"region: true is no text; write it in quotes"}},
		{"a list", "core: [s1=127.0.0.1:7401]\n", nil, enough, []string{"server.yaml: core: it has a list; write one text, as in s1=127.0.0.1:7401,"}},
		{"a table", "core:\n  s1: 127.0.0.1:7401\n", nil, enough, []string{"core: it has keys and values; write one text"}},
		{"a level in the file", "log_level: loud\n", nil, enough, []string{`server.yaml: log_level: "loud" is none of debug`}},
		{"a level in the environment", "", []string{"PERDURE_LOG_LEVEL=loud"}, enough, []string{`PERDURE_LOG_LEVEL: "loud" is none of`}},
		{"another port", "", nil, append([]string{"--core", "s1=127.0.0.1:7411"}, enough[:4]...), []string{"--core: this server, s1, is listed at 127.0.0.1:7411, but --listen-peer is 127.0.0.1:7401"}},
		{"another port told", "advertise_peer: h:7402\n", nil, append([]string{"--core", "s1=127.0.0.1:7411"}, enough[:4]...), []string{"listed at 127.0.0.1:7411, but config: ", "server.yaml: advertise_peer is h:7402"}},
	} {
		_, err := load(t, tc.file, tc.environ, tc.args...)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in: %v", tc.name, want, err)
			}
		}
	}
}

// What cannot be read is reported alone: what is missing then may be in there.
func TestConfigFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"none.yaml":   " does not exist",
		"server.conf": ": unknown kind of file; its name must end with .yaml, .yml, .json, .toml",
		"bad.yaml":    " is not valid YAML: ",
		"bad.json":    " is not valid JSON: ",
		"bad.toml":    " is not valid TOML: ",
	} {
		path := filepath.Join(dir, name)
		if name != "none.yaml" {
			if err := os.WriteFile(path, []byte("name: [s1"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := load(t, "", nil, "--config", path)
		if err == nil || !strings.HasPrefix(err.Error(), "config: "+path+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q and nothing else", name, err, want)
		}
		for _, library := range []string{"yaml: ", "json: ", "toml: ", "parsing config", "decod", "unconvertible", "Unsupported"} {
			if err != nil && strings.Contains(err.Error(), library) {
				t.Errorf("%s: %v speaks of a library", name, err)
			}
		}
	}
}

// Its own entry of the core list may be what it listens on, or what it tells.
func TestOwnCoreEntry(t *testing.T) {
	for _, args := range [][]string{
		{"--core", "s1=127.0.0.1:7401"},
		{"--core", "s1=example.org:7401"},
		{"--core", "s1=proxy:9", "--advertise-peer", "proxy:9"},
		{"--core", "s1=127.0.0.1:7401", "--advertise-peer", "proxy:9"},
		{"--core", "s1=127.0.0.1:5", "--listen-peer", "127.0.0.1:0"},
		{"--core", "s2=127.0.0.1:5"},
	} {
		if _, err := load(t, "", nil, append(args, "--name", "s1", "--data", "/data")...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestInsecureAndOtherPrograms(t *testing.T) {
	c, err := load(t, "", nil, append([]string{"--listen-client", "0.0.0.0:7400", "--insecure"}, enough...)...)
	if err != nil || c.ListenClient != "0.0.0.0:7400" {
		t.Errorf("insecure: %v", err)
	}
	for _, loopback := range []string{"localhost:1", "127.0.0.9:1", "[::1]:1"} {
		if _, err := load(t, "", nil, append([]string{"--listen-client", loopback}, enough...)...); err != nil {
			t.Errorf("%s: %v", loopback, err)
		}
	}
	// Variables of other commands are none of ours.
	if _, err := load(t, "", []string{"PERDURE_CONNECT=127.0.0.1:1", "PERDURE_TIMEOUT=1s"}, enough...); err != nil {
		t.Error(err)
	}
}

func TestCoreServers(t *testing.T) {
	good := Config{Core: " s3=h:3, s1=h:1,s2=h:2 "}
	list, err := good.CoreServers()
	if err != nil || len(list) != 3 {
		t.Fatalf("%v: %v", list, err)
	}
	for i, c := range list {
		if c.ID != uint64(i+1) || c.Name != []string{"s1", "s2", "s3"}[i] {
			t.Errorf("place %d: %+v", i, c)
		}
	}
	for core, want := range map[string]string{
		"":                     "no core servers",
		"s1":                   "not NAME=HOST:PORT",
		"s1=h":                 "not HOST:PORT",
		"=h:1":                 "empty",
		"s1=h:1,s1=h:2,s2=h:3": "named twice",
		"s1=h:1,s2=h:2":        "2 servers",
		"a=h:1,b=h:1,c=h:1,d=h:1,e=h:1,f=h:1,g=h:1,h=h:1,i=h:1": "9 servers",
	} {
		c := Config{Core: core}
		if _, err := c.CoreServers(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", core, err, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	keys := []string{"name", "listen_client", "listen_peer"}
	for word, want := range map[string]string{
		"nane": `; did you mean "name"?`, "listen_cilent": `; did you mean "listen_client"?`, "zzzzzz": "", "": "",
	} {
		if got := suggest(word, keys); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
