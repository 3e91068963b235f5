package server

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// configKinds are the kinds of file that a configuration may be in.
var configKinds = []string{".yaml", ".yml", ".json", ".toml"}

// layers puts the sources of a configuration on top of each other, and knows by
// which name each value was given.
type layers struct {
	values  *viper.Viper
	flags   map[string]*pflag.Flag // by key
	sources map[string]string      // of what is not a default, by key
	errs    []error
}

func newLayers(f *pflag.FlagSet) *layers {
	l := &layers{values: viper.New(), flags: map[string]*pflag.Flag{}, sources: map[string]string{}}
	f.VisitAll(func(flag *pflag.Flag) {
		if key := keyOf(flag); key != "config" && key != "help" {
			l.flags[key] = flag
			l.values.SetDefault(key, flag.DefValue)
		}
	})
	return l
}

// keyOf is the name of a flag's value in files.
func keyOf(f *pflag.Flag) string { return strings.ReplaceAll(f.Name, "-", "_") }

func (l *layers) bad(format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

func (l *layers) keys() []string { return slices.Sorted(maps.Keys(l.flags)) }

// source returns the name by which the value of a key was given, or may be.
func (l *layers) source(key string) string {
	if s := l.sources[key]; s != "" {
		return s
	}
	return "--" + l.flags[key].Name
}

// set puts a value on top, if it is one that the key can have.
func (l *layers) set(key, value, source string) {
	if l.isBool(key) {
		switch strings.ToLower(value) {
		case "true", "1", "t":
			value = "true"
		case "false", "0", "f":
			value = "false"
		default:
			l.bad("%s: %q is neither true nor false; write true or false", source, value)
			return
		}
	}
	l.values.Set(key, value)
	l.sources[key] = source
}

func (l *layers) isBool(key string) bool { return l.flags[key].Value.Type() == "bool" }

// readEnvironment takes over variables. An empty one counts as absent.
func (l *layers) readEnvironment(env map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(env)) {
		name := variablePrefix + strings.ToUpper(key)
		switch {
		case key == "config" || env[key] == "":
		case l.flags[key] != nil:
			l.set(key, env[key], name)
		default:
			// What is near to no key is of another command (PERDURE_CONNECT and the
			// like), and none of ours.
			if near := nearest(key, l.keys()); near != "" {
				l.bad("environment: %s is not known; did you mean %q?", name, variablePrefix+strings.ToUpper(near))
			}
		}
	}
}

const variablePrefix = "PERDURE_"

// environment returns the PERDURE_ variables by key.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if key, ok := strings.CutPrefix(name, variablePrefix); ok {
			env[strings.ToLower(key)] = value
		}
	}
	return env
}

// readFile takes over a file. Its error means that nothing could be read.
func (l *layers) readFile(file string) error {
	if kind := filepath.Ext(file); !slices.Contains(configKinds, strings.ToLower(kind)) {
		return fmt.Errorf("config: %s: unknown kind of file; its name must end with %s", file, strings.Join(configKinds, ", "))
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("config: %s does not exist", file)
	} else if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	v := viper.New()
	v.SetConfigFile(file)
	if err := v.ReadInConfig(); err != nil {
		var parse viper.ConfigParseError
		if errors.As(err, &parse) {
			err = errors.Unwrap(parse)
		}
		return fmt.Errorf("config: %s is not valid %s: %s", file, strings.ToUpper(filepath.Ext(file)[1:]), parserText(err))
	}
	for _, key := range slices.Sorted(maps.Keys(v.AllSettings())) {
		if l.flags[key] == nil {
			l.unknown(file, text, []string{key}, v.Get(key))
			continue
		}
		l.readKey(fmt.Sprintf("config: %s: %s", file, written(text, key)), key, v.Get(key))
	}
	return nil
}

// parserText leaves out by which library a document does not parse.
func parserText(err error) string {
	text := err.Error()
	for _, prefix := range []string{"yaml: ", "json: ", "toml: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// written returns a key the way the file has it: keys are read without regard
// to case.
func written(text []byte, key string) string {
	if found := regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(key) + `\b`).Find(text); found != nil {
		return string(found)
	}
	return key
}

// readKey takes over a value of a file.
func (l *layers) readKey(source, key string, value any) {
	switch v := value.(type) {
	case nil: // nothing is written behind it
	case string:
		l.set(key, v, source)
	case bool:
		if l.isBool(key) {
			l.set(key, fmt.Sprint(v), source)
			return
		}
		l.bad("%s: %v is no text; write it in quotes", source, v)
	case []any, map[string]any:
		what := "a list"
		if _, table := v.(map[string]any); table {
			what = "keys and values"
		}
		example := `one text, as in "text"`
		switch {
		case l.isBool(key):
			example = "true or false"
		case key == "core":
			example = "one text, as in s1=127.0.0.1:7401,s2=127.0.0.1:7411,s3=127.0.0.1:7421"
		}
		l.bad("%s: it has %s; write %s", source, what, example)
	default: // a number, a time
		if l.isBool(key) {
			l.bad("%s: %v is neither true nor false; write true or false", source, v)
			return
		}
		l.bad("%s: %v is no text; write it in quotes", source, v)
	}
}

// unknown reports a key that is none of ours; of a table each key in it.
func (l *layers) unknown(file string, text []byte, path []string, value any) {
	table, _ := value.(map[string]any)
	for _, inner := range slices.Sorted(maps.Keys(table)) {
		l.unknown(file, text, append(slices.Clip(path), inner), table[inner])
	}
	if len(table) > 0 {
		return
	}
	shown := make([]string, len(path))
	for i, key := range path {
		shown[i] = written(text, key)
	}
	l.bad("config: %s: unknown key %q%s", file, strings.Join(shown, "."), suggest(strings.Join(path, "."), l.keys()))
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
