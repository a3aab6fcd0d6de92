// Command results makes a table of a run of tests and compares it with what is recorded.
//
// It reads the lines of `go test -json` and fails if a test that is recorded as passed did not pass,
// or if one passed that is not recorded as passed.
//
// usage: results [-record] [-partial] FILE < lines
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	record := flag.Bool("record", false, "write what was seen to FILE instead of comparing")
	partial := flag.Bool("partial", false, "not every test of the packages was run")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: results [-record] [-partial] FILE < lines")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *record, *partial); err != nil {
		fmt.Fprintln(os.Stderr, "results:", err)
		os.Exit(1)
	}
}

func run(file string, record, partial bool) error {
	seen, err := readRun(os.Stdin)
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		return fmt.Errorf("no test was run")
	}
	recorded, err := readRecord(file)
	if err != nil {
		return err
	}
	printTable(os.Stdout, seen)
	if record {
		return writeRecord(file, merge(recorded, seen, partial))
	}
	differences := compare(recorded, seen, partial)
	for _, difference := range differences {
		fmt.Println(difference)
	}
	if len(differences) > 0 {
		return fmt.Errorf("%d differences from %s", len(differences), file)
	}
	return nil
}
