package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// separator joins the values that followed one flag on their way through
// pflag. No argument of a process can hold it.
const separator = "\x00"

// A listFlag takes one or more values after one flag, and may be repeated:
// --repository a b --repository c. It keeps which values came together.
type listFlag struct {
	groups [][]string
	hint   string // what the values are, for help
}

var _ pflag.Value = (*listFlag)(nil)

// listVar defines a listFlag on set.
func listVar(set *pflag.FlagSet, name, values, usage string) *listFlag {
	return listVarP(set, name, "", values, usage)
}

// listVarP is listVar for a flag that has a letter, too.
func listVarP(set *pflag.FlagSet, name, short, values, usage string) *listFlag {
	f := &listFlag{hint: values}
	set.VarP(f, name, short, usage)
	return f
}

func (f *listFlag) Set(text string) error {
	f.groups = append(f.groups, strings.Split(text, separator))
	return nil
}

func (f *listFlag) String() string { return strings.Join(f.values(), " ") }

// Type is what help shows for the flag's value.
func (f *listFlag) Type() string { return f.hint }

// values returns all values of all the flag's occurrences, each once, in order.
func (f *listFlag) values() []string {
	var all []string
	for _, g := range f.groups {
		for _, v := range g {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	return all
}

// A choiceFlag takes one of a few words, in any case, and keeps the spelling
// that it was defined with.
type choiceFlag struct {
	value   string
	choices []string
}

var _ pflag.Value = (*choiceFlag)(nil)

// choiceVar defines a choiceFlag with a default, which may be "" for none.
func choiceVar(set *pflag.FlagSet, name, short, value, usage string, choices ...string) *choiceFlag {
	f := &choiceFlag{value: value, choices: choices}
	set.VarP(f, name, short, usage)
	return f
}

func (f *choiceFlag) Set(text string) error {
	for _, c := range f.choices {
		if strings.EqualFold(c, text) {
			f.value = c
			return nil
		}
	}
	return fmt.Errorf("want one of %s", strings.Join(f.choices, ", "))
}

func (f *choiceFlag) String() string { return f.value }

// Type is what help shows for the flag's value.
func (f *choiceFlag) Type() string { return strings.Join(f.choices, "|") }

// A textFlag takes any text; help shows what the text is.
type textFlag struct {
	value *string
	kind  string
}

var _ pflag.Value = textFlag{}

// textVar defines a textFlag that keeps its value in *value.
func textVar(set *pflag.FlagSet, value *string, name, short, kind, usage string) {
	set.VarP(textFlag{value, kind}, name, short, usage)
}

func (f textFlag) Set(text string) error { *f.value = text; return nil }

func (f textFlag) String() string {
	if f.value == nil { // pflag asks a zero value
		return ""
	}
	return *f.value
}

// Type is what help shows for the flag's value.
func (f textFlag) Type() string { return f.kind }
