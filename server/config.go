package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/perdure/perdure/message"
)

// Config is one process's own configuration. What the servers agree on is the
// realm definition and never comes through here.
//
// A key of the file is the name of the flag with '_' for '-'; its environment
// twin is PERDURE_ and the key in capitals. File < environment < flag.
type Config struct {
	Name            string `mapstructure:"name"`
	Data            string `mapstructure:"data"`
	ListenClient    string `mapstructure:"listen_client"`
	ListenPeer      string `mapstructure:"listen_peer"`
	ListenOps       string `mapstructure:"listen_ops"`
	AdvertiseClient string `mapstructure:"advertise_client"`
	AdvertisePeer   string `mapstructure:"advertise_peer"`
	Core            string `mapstructure:"core"`
	Region          string `mapstructure:"region"`
	Insecure        bool   `mapstructure:"insecure"`
	LogLevel        string `mapstructure:"log_level"`
	LogFormat       string `mapstructure:"log_format"`
	NetworkFS       bool   `mapstructure:"allow_network_filesystem"`
}

// Flags declares the flags of Config on f.
func Flags(f *pflag.FlagSet) {
	f.String("config", "", "configuration file (YAML, JSON or TOML)")
	f.String("name", "", "name of this server, as in the realm definition and --core")
	f.String("data", "", "data directory; created if its parent exists")
	f.String("listen-client", "127.0.0.1:7400", "address for clients (gRPC)")
	f.String("listen-peer", "127.0.0.1:7401", "address for other servers")
	f.String("listen-ops", "127.0.0.1:7402", "address for operators (HTTP)")
	f.String("advertise-client", "", "address that clients are told, where it differs from --listen-client")
	f.String("advertise-peer", "", "address that servers are told, where it differs from --listen-peer")
	f.String("core", "", "core servers and their peer addresses: s1=HOST:PORT,s2=HOST:PORT,...")
	f.String("region", "", "region of this server")
	f.Bool("insecure", false, "allow listeners beyond loopback without TLS")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	f.Bool("allow-network-filesystem", false, "allow a data directory on a network file system")
}

// LoadConfig reads the configuration from the file that --config or
// PERDURE_CONFIG names, the environment and the flags in f, and validates it.
// Unknown keys are refused. Its errors name every problem.
func LoadConfig(f *pflag.FlagSet, environ []string) (Config, error) {
	v := viper.NewWithOptions(viper.EnvKeyReplacer(strings.NewReplacer("-", "_")))
	env := environment(environ)
	var keys []string
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		key := strings.ReplaceAll(flag.Name, "-", "_")
		if key == "config" || flag.Name == "help" {
			return
		}
		keys = append(keys, key)
		v.SetDefault(key, flag.DefValue)
	})
	file, _ := f.GetString("config")
	if e, ok := env["config"]; ok && !f.Changed("config") {
		file = e
	}
	if file != "" {
		errs = append(errs, readFile(v, file, keys)...)
	}
	for _, key := range slices.Sorted(keysOf(env)) {
		if !slices.Contains(keys, key) {
			if key != "config" && serverVariable(key, keys) {
				errs = append(errs, fmt.Errorf("environment: PERDURE_%s is not known%s", strings.ToUpper(key), suggest(key, keys)))
			}
			continue
		}
		v.Set(key, env[key])
	}
	f.Visit(func(flag *pflag.Flag) {
		if key := strings.ReplaceAll(flag.Name, "-", "_"); slices.Contains(keys, key) {
			v.Set(key, flag.Value.String())
		}
	})
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, c.validate()...)
	}
	return c, errors.Join(errs...)
}

// environment returns the PERDURE_ variables by key.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if key, ok := strings.CutPrefix(name, "PERDURE_"); ok {
			env[strings.ToLower(key)] = value
		}
	}
	return env
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// serverVariable tells a mistyped key of the server from a variable of another
// command (PERDURE_CONNECT and the like), which is none of ours.
func serverVariable(key string, keys []string) bool {
	return nearest(key, keys) != ""
}

func readFile(v *viper.Viper, file string, keys []string) []error {
	v.SetConfigFile(file)
	if err := v.ReadInConfig(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return []error{fmt.Errorf("config: %s does not exist", file)}
		}
		return []error{fmt.Errorf("config: %s: %w", file, err)}
	}
	var errs []error
	for _, key := range v.AllKeys() {
		if !slices.Contains(keys, key) {
			errs = append(errs, fmt.Errorf("config: %s: unknown key %q%s", file, key, suggest(key, keys)))
		}
	}
	return errs
}

func (c *Config) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := message.ValidName(c.Name); err != nil {
		bad("name: %w; set --name to the server's name", err)
	}
	if c.Data == "" {
		bad("data: no data directory; set --data")
	} else if abs, err := filepath.Abs(c.Data); err != nil {
		bad("data: %w", err)
	} else {
		c.Data = abs
	}
	for _, l := range []struct{ key, addr string }{{"listen_client", c.ListenClient}, {"listen_peer", c.ListenPeer}, {"listen_ops", c.ListenOps}} {
		host, _, err := net.SplitHostPort(l.addr)
		if err != nil {
			bad("%s: %q is not HOST:PORT", l.key, l.addr)
		} else if !c.Insecure && !loopback(host) {
			bad("%s: %s is reachable from other machines, and there is no TLS; listen on loopback, or say --insecure", l.key, l.addr)
		}
	}
	if _, err := c.CoreServers(); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad("log_level: %q is none of debug, info, warn, error", c.LogLevel)
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		bad("log_format: %q is neither text nor json", c.LogFormat)
	}
	return errs
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// CoreServer is one of the servers that keep the realm.
type CoreServer struct {
	ID   uint64 // position in the list sorted by name, from 1
	Name string
	Addr string // of its peer listener
}

// CoreServers parses the core list, sorted by name.
func (c *Config) CoreServers() ([]CoreServer, error) {
	if strings.TrimSpace(c.Core) == "" {
		return nil, errors.New("core: no core servers; set --core to NAME=HOST:PORT for each, with commas between")
	}
	var list []CoreServer
	for _, item := range strings.Split(c.Core, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok {
			return nil, fmt.Errorf("core: %q is not NAME=HOST:PORT", item)
		}
		if err := message.ValidName(name); err != nil {
			return nil, fmt.Errorf("core: %q: %w", item, err)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("core: %q: %q is not HOST:PORT", item, addr)
		}
		list = append(list, CoreServer{Name: name, Addr: addr})
	}
	slices.SortFunc(list, func(a, b CoreServer) int { return strings.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].ID = uint64(i + 1)
		if i > 0 && list[i].Name == list[i-1].Name {
			return nil, fmt.Errorf("core: %s is named twice", list[i].Name)
		}
	}
	if n := len(list); n%2 == 0 || n > 7 {
		return nil, fmt.Errorf("core: %d servers; there must be 1, 3, 5 or 7, so that a majority is always more than half", n)
	}
	return list, nil
}

// prepareData makes the data directory and shows that it can be written.
func prepareData(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("data: cannot create %s: %w; create its parent, or choose another --data", dir, err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("data: %s cannot be written: %w; choose another --data, or change its owner", dir, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func suggest(key string, keys []string) string {
	if n := nearest(key, keys); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// nearest returns the key that differs from key in at most a third of its
// letters, "" if there is none.
func nearest(key string, keys []string) string {
	best, at := "", len(key)/3+1
	for _, k := range keys {
		if d := distance(key, k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = min(row[j], row[j+1], diagonal) + 1
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
