package cli

import (
	"fmt"
	"slices"
	"strconv"
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
	hint   string                // what the values are, for help
	keep   func(values []string) // gets the values of all occurrences; nil keeps them here
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

// namesOption defines a listFlag that keeps its values in *to.
func namesOption(set *pflag.FlagSet, to *[]string, name, values, usage string) {
	listVar(set, name, values, usage).keep = func(values []string) { *to = values }
}

// groupsOption defines a listFlag that keeps its values in *to, by occurrence.
func groupsOption(set *pflag.FlagSet, to *[][]string, name, values, usage string) {
	f := listVar(set, name, values, usage)
	f.keep = func([]string) { *to = f.groups }
}

// listOption defines a listFlag that keeps its values in *to, which is nil until
// it is given. An empty value stands for an empty list.
func listOption(set *pflag.FlagSet, to *[]string, name, values, usage string) {
	listVar(set, name, values, usage).keep = func(values []string) {
		*to = slices.DeleteFunc(append([]string{}, values...), func(v string) bool { return v == "" })
	}
}

func (f *listFlag) Set(text string) error {
	f.groups = append(f.groups, strings.Split(text, separator))
	if f.keep != nil {
		f.keep(f.values())
	}
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
	value   *string
	choices []string
}

var _ pflag.Value = choiceFlag{}

// choiceVar defines a choiceFlag that keeps its value in *to, with a default,
// which may be "" for none.
func choiceVar(set *pflag.FlagSet, to *string, name, short, value, usage string, choices ...string) {
	*to = value
	set.VarP(choiceFlag{to, choices}, name, short, usage)
}

func (f choiceFlag) Set(text string) (err error) {
	*f.value, err = choose(text, f.choices)
	return err
}

// choose returns the one of choices that text is, in whatever case.
func choose(text string, choices []string) (string, error) {
	for _, c := range choices {
		if strings.EqualFold(c, text) {
			return c, nil
		}
	}
	return "", fmt.Errorf("want one of %s", strings.Join(choices, ", "))
}

func (f choiceFlag) String() string { return textFlag{value: f.value}.String() }

// Type is what help shows for the flag's value.
func (f choiceFlag) Type() string { return strings.Join(f.choices, "|") }

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

// An optionFlag is a flag whose value is nil until it is given.
type optionFlag[T any] struct {
	value    **T
	kind     string
	standard string // what stands for nil, for help
	parse    func(string) (T, error)
}

func (f optionFlag[T]) Set(text string) error {
	v, err := f.parse(text)
	if err == nil {
		*f.value = &v
	}
	return err
}

func (f optionFlag[T]) String() string {
	if f.value == nil || *f.value == nil { // pflag asks a zero value
		return f.standard
	}
	return fmt.Sprint(**f.value)
}

// Type is what help shows for the flag's value.
func (f optionFlag[T]) Type() string { return f.kind }

// textOption defines a flag for any text, which *to is nil without.
func textOption(set *pflag.FlagSet, to **string, name, short, kind, usage string) {
	parse := func(text string) (string, error) { return text, nil }
	set.VarP(optionFlag[string]{value: to, kind: kind, parse: parse}, name, short, usage)
}

// choiceOption defines a flag for one of a few words, which *to is nil without.
func choiceOption(set *pflag.FlagSet, to **string, name, usage string, choices ...string) {
	parse := func(text string) (string, error) { return choose(text, choices) }
	set.Var(optionFlag[string]{value: to, kind: strings.Join(choices, "|"), parse: parse}, name, usage)
}

// numberOption defines a flag for a whole number, which *to is nil without.
func numberOption(set *pflag.FlagSet, to **int, name, usage string) {
	set.Var(optionFlag[int]{value: to, kind: "int", standard: "0", parse: strconv.Atoi}, name, usage)
}

// switchOption defines a flag that is true or false, which *to is nil without;
// standard is what it is then.
func switchOption(set *pflag.FlagSet, to **bool, name, standard, usage string) {
	set.Var(optionFlag[bool]{value: to, kind: "bool", standard: standard, parse: strconv.ParseBool}, name, usage)
	set.Lookup(name).NoOptDefVal = "true"
}
