package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const lines = `{"Action":"run","Package":"example.org/suite/csapi","Test":"TestA"}
{"Action":"output","Package":"example.org/suite/csapi","Test":"TestA","Output":"..."}
{"Action":"pass","Package":"example.org/suite/csapi","Test":"TestA/sub"}
{"Action":"pass","Package":"example.org/suite/csapi","Test":"TestA"}
{"Action":"fail","Package":"example.org/suite/csapi"}
{"Action":"run","Package":"example.org/suite/csapi","Test":"TestB"}
`

func TestARunIsReadAndWhatNeverEndedHasFailed(t *testing.T) {
	seen, err := readRun(strings.NewReader(lines))
	want := outcomes{{"csapi", "TestA"}: "pass", {"csapi", "TestA/sub"}: "pass", {"csapi", "TestB"}: "fail"}
	if err != nil || !reflect.DeepEqual(seen, want) {
		t.Errorf("got %v, %v", seen, err)
	}
}

func TestWhatIsRecordedIsReadBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.jsonl")
	if recorded, err := readRecord(file); err != nil || len(recorded) != 0 {
		t.Fatalf("got %v, %v", recorded, err)
	}
	what := outcomes{{"csapi", "TestB/<a>"}: "fail", {"csapi", "TestA"}: "pass"}
	if err := writeRecord(file, what); err != nil {
		t.Fatal(err)
	}
	if recorded, err := readRecord(file); err != nil || !reflect.DeepEqual(recorded, what) {
		t.Errorf("got %v, %v", recorded, err)
	}
}

func TestARegressionAndAnUnrecordedPassAreDifferences(t *testing.T) {
	recorded := outcomes{{"a", "Broken"}: "pass", {"a", "Gone"}: "pass", {"a", "Known"}: "fail", {"b", "Other"}: "pass"}
	seen := outcomes{{"a", "Broken"}: "skip", {"a", "Known"}: "fail", {"a", "New"}: "pass", {"a", "NewFailure"}: "fail"}
	want := []string{"regression (skip): a Broken", "gone: a Gone", "passes, not recorded: a New"}
	if got := compare(recorded, seen, false); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	want = []string{"regression (skip): a Broken", "passes, not recorded: a New"}
	if got := compare(recorded, seen, true); !reflect.DeepEqual(got, want) {
		t.Errorf("partial: got %q", got)
	}
	if merged := merge(recorded, seen, false); merged[test{"a", "Gone"}] != "" || merged[test{"b", "Other"}] != "pass" {
		t.Errorf("merged to %v", merged)
	}
}

func TestWhatIsFlakyMayEndEitherWayButMustBeThere(t *testing.T) {
	recorded := outcomes{{"a", "Chance"}: "flaky", {"a", "Always"}: "pass"}
	for _, outcome := range []string{"pass", "fail"} {
		seen := outcomes{{"a", "Chance"}: outcome, {"a", "Always"}: "pass"}
		if got := compare(recorded, seen, false); len(got) != 0 {
			t.Errorf("%s: got %q", outcome, got)
		}
		if merged := merge(recorded, seen, false); !reflect.DeepEqual(merged, recorded) {
			t.Errorf("%s: merged to %v", outcome, merged)
		}
	}
	if got := compare(recorded, outcomes{{"a", "Always"}: "pass"}, false); len(got) != 1 {
		t.Errorf("gone: got %q", got)
	}
}
