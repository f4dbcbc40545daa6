package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// testFlags are the flags of a made-up command: one of each kind.
func testFlags() *pflag.FlagSet {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	groupsVar(set, new([][]string), "repository", "NAME", "")
	set.StringP("name", "n", "", "")
	set.StringP("registry", "r", "", "")
	set.String("sync-schedule", "", "")
	set.String("sync-window", "", "")
	set.Int("generate-password", 0, "")
	set.BoolP("yes", "y", false, "")
	set.Bool("cleanup", false, "")
	ignored(set, "resource-group", "g")
	return set
}

func TestArgumentsAreParsedLikeTheReference(t *testing.T) {
	join := func(values ...string) string { return strings.Join(values, separator) }
	for _, test := range []struct {
		name string
		args string
		want []string
		err  string
	}{
		{"several values after one flag", "--repository a b c -n x",
			[]string{"--repository=" + join("a", "b", "c"), "--name=x"}, ""},
		{"a repeated list", "--repository ns/app content/read --repository b content/write",
			[]string{"--repository=" + join("ns/app", "content/read"), "--repository=" + join("b", "content/write")},
			""},
		{"a list after =", "--repository=a b", []string{"--repository=" + join("a", "b")}, ""},
		{"a list at the end of flags", "--repository a -- b", []string{"--repository=a", "--", "b"}, ""},
		{"an empty list", "--repository --name x", nil, "--repository needs a value"},
		{"an empty list at the end", "--repository", nil, "--repository needs a value"},
		{"the beginning of a flag", "--generate 1", []string{"--generate-password=1"}, ""},
		{"the beginning of a flag with =", "--gen=2", []string{"--generate-password=2"}, ""},
		{"the beginning of a list", "--repo a b", []string{"--repository=" + join("a", "b")}, ""},
		{"an ambiguous beginning", "--sync x", nil, "--sync could be --sync-schedule, --sync-window"},
		{"the beginning of a hidden flag", "--resource x", nil, "unknown flag --resource"},
		{"a hidden flag in full", "--resource-group x", []string{"--resource-group=x"}, ""},
		{"an unknown flag", "--bogus", nil, "unknown flag --bogus"},
		{"only dashes", "--=x", nil, "unknown flag --"},
		{"a value that looks like a flag", "--name --odd", []string{"--name=--odd"}, ""},
		{"a value that begins with a dash", "--name -5", []string{"--name=-5"}, ""},
		{"a forgotten value", "--name --registry x", nil, "--name needs a value"},
		{"a forgotten value before a short flag", "--name -r x", nil, "--name needs a value"},
		{"a forgotten value at the end", "-n", nil, "--name needs a value"},
		{"a short flag and its value in one", "-nx -r=y", []string{"--name=x", "--registry=y"}, ""},
		{"a dash is a value", "-n -", []string{"--name=-"}, ""},
		{"a switch", "--cleanup -y", []string{"--cleanup", "--yes"}, ""},
		{"a switch with a value", "--cleanup false --yes True", []string{"--cleanup=false", "--yes=true"}, ""},
		{"a switch with a value after =", "--cleanup=false", []string{"--cleanup=false"}, ""},
		{"what follows -- is left alone", "-- --sync -n", []string{"--", "--sync", "-n"}, ""},
		{"words that belong to no flag", "a b", []string{"a", "b"}, ""},
		{"an unknown short flag is pflag's to refuse", "-z", []string{"-z"}, ""},
		{"an empty value", "--name=", []string{"--name="}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := testFlags()
			got, err := normalize(set, strings.Fields(test.args))
			if (err == nil) != (test.err == "") || (err != nil && err.Error() != test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAListFlagGroupsItsValues(t *testing.T) {
	var groups [][]string
	var names []string
	set := testFlags()
	groupsVar(set, &groups, "group", "NAME", "")
	namesVar(set, &names, "word", "w", "NAME", "")
	args, err := normalize(set, strings.Fields("--group a content/read --group b content/read -w a c --word b c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"a", "content/read"}, {"b", "content/read"}}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "c", "b"}, names); diff != "" {
		t.Error(diff)
	}
}

// FuzzNormalize checks that pflag parses the output of normalize, except unknown short
// flags and values of the wrong type, and that arguments after "--" stay as they are.
func FuzzNormalize(f *testing.F) {
	f.Add("--repository a b -n x -- --y")
	f.Add("--sync-w=PT1H -yg x --cleanup false")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(strings.ReplaceAll(line, separator, ""))
		set := testFlags()
		got, err := normalize(set, args)
		if err != nil {
			return
		}
		if err := set.Parse(got); err != nil && !strings.Contains(err.Error(), "unknown shorthand") &&
			!strings.Contains(err.Error(), "invalid argument") && !strings.Contains(err.Error(), "needs an argument") &&
			err != pflag.ErrHelp {
			t.Errorf("%q became %q: %v", args, got, err)
		}
		again, err := normalize(set, got)
		if err != nil || !cmp.Equal(got, again) {
			t.Errorf("%q became %q, and that %q, %v", args, got, again, err)
		}
	})
}
