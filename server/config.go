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
	StateDir        string `mapstructure:"state_dir"`
	Load            bool   `mapstructure:"load"`
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
	f.String("state-dir", "", "directory of saved states; state in the data directory unless given")
	f.Bool("load", false, "load the newest saved states into clusters that hold nothing")
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
// Unknown keys are refused. Its errors name every problem, each under the name
// by which the value was given; a file that cannot be read is reported alone.
func LoadConfig(f *pflag.FlagSet, environ []string) (Config, error) {
	l := newLayers(f)
	env := environment(environ)
	file, _ := f.GetString("config")
	if e, ok := env["config"]; ok && !f.Changed("config") {
		file = e
	}
	if file != "" {
		if err := l.readFile(file); err != nil {
			return Config{}, err
		}
	}
	l.readEnvironment(env)
	f.Visit(func(flag *pflag.Flag) {
		if key := keyOf(flag); l.flags[key] != nil {
			l.set(key, flag.Value.String(), "--"+flag.Name)
		}
	})
	var c Config
	if err := l.values.Unmarshal(&c); err != nil {
		return c, errors.Join(append(l.errs, fmt.Errorf("configuration: %w", err))...)
	}
	return c, errors.Join(append(l.errs, c.validate(l.source)...)...)
}

// validate makes paths absolute and returns what is wrong. source says under
// which name the value of a key was given.
func (c *Config) validate(source func(key string) string) []error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{source(key)}, args...)...))
	}
	if err := message.ValidName(c.Name); err != nil {
		bad("name", "%w; set --name to the server's name", err)
	}
	if c.Data == "" {
		bad("data", "no data directory; set --data")
	} else if abs, err := filepath.Abs(c.Data); err != nil {
		bad("data", "%w", err)
	} else {
		c.Data = abs
	}
	if c.StateDir != "" {
		if abs, err := filepath.Abs(c.StateDir); err != nil {
			bad("state_dir", "%w", err)
		} else {
			c.StateDir = abs
		}
	}
	for _, l := range []struct{ key, addr string }{{"listen_client", c.ListenClient}, {"listen_peer", c.ListenPeer}, {"listen_ops", c.ListenOps}} {
		host, _, err := net.SplitHostPort(l.addr)
		if err != nil {
			bad(l.key, "%q is not HOST:PORT", l.addr)
		} else if !c.Insecure && !loopback(host) {
			bad(l.key, "%s is reachable from other machines, and there is no TLS; listen on loopback, or say --insecure", l.addr)
		}
	}
	if core, err := parseCore(c.Core); err != nil {
		bad("core", "%w", err)
	} else if err := c.checkOwn(core, source); err != nil {
		bad("core", "%w", err)
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, c.LogLevel) {
		bad("log_level", "%q is none of %s", c.LogLevel, strings.Join(levels, ", "))
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		bad("log_format", "%q is neither text nor json", c.LogFormat)
	}
	return errs
}

// checkOwn refuses a core list in which this server has an address that others
// would not find it under.
func (c *Config) checkOwn(core []CoreServer, source func(string) string) error {
	i := slices.IndexFunc(core, func(s CoreServer) bool { return s.Name == c.Name })
	if i < 0 {
		return nil // it is auxiliary
	}
	key, told := "listen_peer", c.ListenPeer
	_, port, _ := net.SplitHostPort(core[i].Addr)
	_, listens, err := net.SplitHostPort(c.ListenPeer)
	if err != nil || listens == "0" || listens == port {
		return nil // reported already, any port, or the same
	}
	if c.AdvertisePeer != "" {
		key, told = "advertise_peer", c.AdvertisePeer
		if _, advertised, err := net.SplitHostPort(told); err == nil && advertised == port {
			return nil
		}
	}
	return fmt.Errorf("this server, %s, is listed at %s, but %s is %s; the ports must be the same, so change one of them", c.Name, core[i].Addr, source(key), told)
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
	list, err := parseCore(c.Core)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	return list, nil
}

func parseCore(core string) ([]CoreServer, error) {
	if strings.TrimSpace(core) == "" {
		return nil, errors.New("no core servers; set --core to NAME=HOST:PORT for each, with commas between")
	}
	var list []CoreServer
	for _, item := range strings.Split(core, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok {
			return nil, fmt.Errorf("%q is not NAME=HOST:PORT", item)
		}
		if err := message.ValidName(name); err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("%q: %q is not HOST:PORT", item, addr)
		}
		list = append(list, CoreServer{Name: name, Addr: addr})
	}
	slices.SortFunc(list, func(a, b CoreServer) int { return strings.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].ID = uint64(i + 1)
		if i > 0 && list[i].Name == list[i-1].Name {
			return nil, fmt.Errorf("%s is named twice", list[i].Name)
		}
	}
	if n := len(list); n%2 == 0 || n > 7 {
		return nil, fmt.Errorf("%d servers; there must be 1, 3, 5 or 7, so that a majority is always more than half", n)
	}
	return list, nil
}

// prepareDir makes a directory that was configured and shows that it can be
// written.
func prepareDir(key, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: cannot create %s: %w; create its parent, or choose another --%[1]s", key, dir, err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("%s: %s cannot be written: %w; choose another --%[1]s, or change its owner", key, dir, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
