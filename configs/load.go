package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Load reads the configuration file at path and what it names: secrets in
// files, certificates. env looks variables up; nil: os.LookupEnv. Relative
// paths in the file are relative to the process's working folder. The error is
// a *Problems. Warnings are worth an operator's look and come only with a
// valid configuration.
func Load(path string, env func(string) (string, bool)) (*Config, []Problem, error) {
	c, r := load(path, env)
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	return c, r.sortedWarnings(), nil
}

// Parse is Load for bytes in memory: it opens no file, so that secrets given
// by file stay empty. name stands in problems in place of the file's.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	r := newReport(name)
	if d, ok := parse(data, env, r); ok {
		d.finish()
		if err := r.err(); err == nil {
			return d.config, nil
		}
	}
	return nil, r.err()
}

// LoadKeys reads the keys and redis sections alone, and the secrets that they
// name: who manages keys need not have the variables and files of the rest, and
// mistakes there are not reported; nor are those of a Redis that is not used. The
// error is a *Problems.
func LoadKeys(path string, env func(string) (string, bool)) (Keys, Redis, error) {
	r := newReport(path)
	data, _, err := readConfig(path)
	if err != nil {
		r.onLine(0, "", "cannot read the configuration: %v: name another file with --config", err)
		return Keys{}, Redis{}, r.err()
	}
	d, ok := parse(data, env, r)
	if !ok {
		return Keys{}, Redis{}, r.err()
	}
	readKeyFiles(d.config, r)
	validateKeys(&d.config.Keys, r)
	validateRedis(&d.config.Redis, r)
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool {
		section, _, _ := strings.Cut(p.Path, ".")
		if p.Path == "" { // a section that was meant to be one of the two, or is there twice
			return !strings.Contains(p.Message, `"keys"`) && !strings.Contains(p.Message, `"redis"`)
		}
		return section != "keys" && (section != "redis" || d.config.Keys.Store != "redis")
	})
	r.dropped = 0
	return d.config.Keys, d.config.Redis, r.err()
}

// load is Load with the report, which knows the lines.
func load(path string, env func(string) (string, bool)) (*Config, *report) {
	r := newReport(path)
	data, mode, err := readConfig(path)
	if err != nil {
		r.onLine(0, "", "cannot read the configuration: %v: name another file with --config", err)
		return nil, r
	}
	d, ok := parse(data, env, r)
	if !ok {
		return nil, r
	}
	readFiles(d.config, r)
	d.finish()
	if mode.IsRegular() && mode.Perm()&0o044 != 0 {
		for _, at := range d.literals {
			if isSensitive(at) {
				r.warn(at, "a secret stands in a file that others may read (mode %#o): chmod 600 the file, use ${VAR}, or the key that names a file", mode.Perm())
			}
		}
	}
	return d.config, r
}

// parse decodes data over the defaults. ok is false where the text could not
// be read as a whole, so that nothing more can be said about it.
func parse(data []byte, env func(string) (string, bool), r *report) (d *decoder, ok bool) {
	if env == nil {
		env = os.LookupEnv
	}
	root := readTree(data, r)
	if len(r.problems) > 0 {
		return nil, false
	}
	d = &decoder{report: r, env: env, config: Default()}
	if root != nil {
		d.value(root, "", reflect.ValueOf(d.config).Elem())
	}
	if d.nodes > maxNodes {
		r.problems, r.dropped = nil, 0 // of a tree that was read in part
		r.onLine(0, "", "the file stands for more than %d values: use fewer aliases (*name)", maxNodes)
		return nil, false
	}
	validateSources(d.config, r)
	return d, true
}

// finish validates what was decoded and brings it into its one form.
func (d *decoder) finish() {
	for model, p := range d.config.Prices {
		p.finish()
		d.config.Prices[model] = p
	}
	validate(d.config, d.report)
	for i := range d.config.Upstreams {
		u := &d.config.Upstreams[i]
		u.BaseURL = strings.TrimRight(u.BaseURL, "/")
	}
}

// readConfig reads at most one byte more than readTree accepts.
func readConfig(path string) ([]byte, os.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, reason(err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, 0, reason(err)
	}
	if stat.IsDir() {
		return nil, 0, errors.New("it is a folder")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read: %w", reason(err))
	}
	return data, stat.Mode(), nil
}

// reason takes the path out of an error of package os: the line names the key
// already, and a path may be a secret written under the wrong key.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// isSensitive reports whether the secret at path is one by its name. Values of
// headers may be secrets, and most are not.
func isSensitive(path string) bool {
	_, header, isHeader := strings.Cut(path, ".headers.set[")
	if !isHeader {
		return true
	}
	header = strings.ToLower(header)
	for _, word := range [...]string{"auth", "key", "token", "secret", "cookie", "password"} {
		if strings.Contains(header, word) {
			return true
		}
	}
	return false
}
