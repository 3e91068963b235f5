package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// errDiffers says that -check found generated code that is not up to date.
var errDiffers = errors.New("generated code is not up to date; run `make proto` and commit the result")

func main() {
	check := flag.Bool("check", false, "compare only, and fail when anything differs")
	root := flag.String("root", "..", "folder of the repository; api/ lies in it")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "protogen: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(context.Background(), *root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run brings the generated code under root/api up to date, or with check only
// compares. It names every file that it changed or would change.
func run(ctx context.Context, root string, check bool) error {
	protos, present, err := scan(root)
	if err != nil {
		return err
	}
	if len(protos) == 0 {
		return fmt.Errorf("no .proto file under %s", filepath.Join(root, "api"))
	}
	want, err := generate(ctx, root, protos)
	if err != nil {
		return err
	}
	changed, err := compare(root, want, present)
	if err != nil {
		return err
	}
	for _, name := range changed {
		fmt.Println(name)
	}
	if check {
		if len(changed) > 0 {
			return errDiffers
		}
		return nil
	}
	return write(root, changed, want)
}

// scan lists the sources under root/api and the generated files beside them,
// both relative to root with slashes and in order.
func scan(root string) (protos, generated []string, err error) {
	err = filepath.WalkDir(filepath.Join(root, "api"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch rel = filepath.ToSlash(rel); {
		case strings.HasSuffix(rel, ".proto"):
			protos = append(protos, rel)
		case strings.HasSuffix(rel, ".pb.go"):
			generated = append(generated, rel)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list sources: %w", err)
	}
	return protos, generated, nil
}

// compare returns the names whose content differs from want, together with
// those that are present and that no source generates any more.
func compare(root string, want map[string][]byte, present []string) ([]string, error) {
	var changed []string
	for name, content := range want {
		have, err := os.ReadFile(filepath.Join(root, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("compare %s: %w", name, err)
		}
		if err != nil || !bytes.Equal(have, content) {
			changed = append(changed, name)
		}
	}
	for _, name := range present {
		if _, ok := want[name]; !ok {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed, nil
}

// write makes the changed files what want says: new content, or gone.
func write(root string, changed []string, want map[string][]byte) error {
	for _, name := range changed {
		path := filepath.Join(root, name)
		content, ok := want[name]
		if !ok {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove stale file: %w", err)
			}
			continue
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write generated file: %w", err)
		}
	}
	return nil
}
