package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"text/tabwriter"
)

// A test, by the last part of its package's name and its own name.
type test struct{ pkg, name string }

// How tests ended: "pass", "fail" or "skip". A record may also have "flaky", by hand: it passes or fails
// by chance.
type outcomes map[test]string

// A line of the file of results. Its keys' order is that of the fields.
type line struct {
	Package string `json:"package"`
	Test    string `json:"test"`
	Outcome string `json:"outcome"`
}

// readRun returns the outcomes among the lines of `go test -json`. A test that began and never ended
// has failed. Lines that are not JSON come from the compiler and are shown.
func readRun(from io.Reader) (outcomes, error) {
	seen := outcomes{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var event struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			fmt.Fprintln(os.Stderr, lines.Text())
			continue
		}
		if event.Test == "" {
			continue
		}
		key := test{path.Base(event.Package), event.Test}
		switch event.Action {
		case "run":
			seen[key] = "fail"
		case "pass", "fail", "skip":
			seen[key] = event.Action
		}
	}
	return seen, lines.Err()
}

// readRecord returns the outcomes in FILE; none if it does not exist.
func readRecord(file string) (outcomes, error) {
	recorded := outcomes{}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return recorded, nil
	} else if err != nil {
		return nil, err
	}
	for number, text := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var read line
		if err := json.Unmarshal([]byte(text), &read); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
		}
		recorded[test{read.Package, read.Test}] = read.Outcome
	}
	return recorded, nil
}

// writeRecord writes FILE, sorted.
func writeRecord(file string, what outcomes) error {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for _, key := range sorted(what) {
		if err := encoder.Encode(line{key.pkg, key.name, what[key]}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// merge returns the record as it is after a run: of a package that was run whole, only what was seen.
func merge(recorded, seen outcomes, partial bool) outcomes {
	merged := outcomes{}
	packages := packagesOf(seen)
	for key, outcome := range recorded {
		if partial || !packages[key.pkg] {
			merged[key] = outcome
		}
	}
	for key, outcome := range seen {
		if recorded[key] == "flaky" {
			outcome = "flaky"
		}
		merged[key] = outcome
	}
	return merged
}

// compare returns a line for every difference that matters.
func compare(recorded, seen outcomes, partial bool) []string {
	var differences []string
	packages := packagesOf(seen)
	for _, key := range sorted(merge(recorded, seen, true)) {
		was, now := recorded[key], seen[key]
		switch {
		case now == "" && (partial || !packages[key.pkg]):
		case was == "flaky" && now != "":
		case (was == "pass" || was == "flaky") && now == "":
			differences = append(differences, fmt.Sprintf("gone: %s %s", key.pkg, key.name))
		case was == "pass" && now != "pass":
			differences = append(differences, fmt.Sprintf("regression (%s): %s %s", now, key.pkg, key.name))
		case was != "pass" && now == "pass":
			differences = append(differences, fmt.Sprintf("passes, not recorded: %s %s", key.pkg, key.name))
		}
	}
	return differences
}

// printTable prints a line for each package: its tests, and all of them with their subtests.
func printTable(to io.Writer, seen outcomes) {
	type count map[string]int
	tests, all := map[string]count{}, map[string]count{}
	add := func(counts map[string]count, pkg, outcome string) {
		if counts[pkg] == nil {
			counts[pkg] = count{}
		}
		counts[pkg][outcome]++
	}
	for key, outcome := range seen {
		for _, pkg := range []string{key.pkg, "all"} {
			add(all, pkg, outcome)
			if !strings.Contains(key.name, "/") {
				add(tests, pkg, outcome)
			}
		}
	}
	var names []string
	for name := range packagesOf(seen) {
		names = append(names, name)
	}
	sort.Strings(names)
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "package\ttests: pass\tfail\tskip\twith subtests: pass\tfail\tskip")
	for _, name := range append(names, "all") {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", name,
			tests[name]["pass"], tests[name]["fail"], tests[name]["skip"],
			all[name]["pass"], all[name]["fail"], all[name]["skip"])
	}
	table.Flush()
}

func packagesOf(what outcomes) map[string]bool {
	packages := map[string]bool{}
	for key := range what {
		packages[key.pkg] = true
	}
	return packages
}

func sorted(what outcomes) []test {
	keys := make([]test, 0, len(what))
	for key := range what {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(a, b int) bool {
		if keys[a].pkg != keys[b].pkg {
			return keys[a].pkg < keys[b].pkg
		}
		return keys[a].name < keys[b].name
	})
	return keys
}
