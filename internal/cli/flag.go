package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// A flag is a command's flag: what it takes, and who gets that.
type flag struct {
	kind string // what its value is, for help
	text string // its value; before it is given the default, for help
	list bool   // one or more values may follow it, and set gets them joined by separator
	set  func(text string) error
}

var _ pflag.Value = (*flag)(nil)

// separator joins the values that followed one flag on their way through
// pflag. No argument of a process can hold it.
const separator = "\x00"

func (f *flag) Set(text string) error {
	err := f.set(text)
	if err == nil {
		f.text = text
	}
	return err
}

func (f *flag) String() string { return f.text }

// Type is what help shows for the flag's value.
func (f *flag) Type() string { return f.kind }

// textVar defines a flag for any text, which *to keeps.
func textVar(set *pflag.FlagSet, to *string, name, short, kind, usage string) {
	keep := func(text string) error { *to = text; return nil }
	set.VarP(&flag{kind: kind, text: *to, set: keep}, name, short, usage)
}

// choiceVar defines a flag for one of a few words, in any case. *to keeps the
// word as it stands in choices; standard, which may be "", is the default.
func choiceVar(set *pflag.FlagSet, to *string, name, short, standard, usage string, choices ...string) {
	*to = standard
	keep := func(text string) (err error) {
		*to, err = choose(text, choices)
		return err
	}
	set.VarP(&flag{kind: strings.Join(choices, "|"), text: standard, set: keep}, name, short, usage)
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

// listVar defines a flag that one or more values follow, and that may be
// repeated: --repository a b --repository c. add gets the values that came
// together.
func listVar(set *pflag.FlagSet, name, short, kind, usage string, add func(values []string) error) {
	split := func(text string) error { return add(strings.Split(text, separator)) }
	set.VarP(&flag{kind: kind, list: true, set: split}, name, short, usage)
}

// groupsVar defines a list flag that keeps in *to which values came together.
func groupsVar(set *pflag.FlagSet, to *[][]string, name, kind, usage string) {
	listVar(set, name, "", kind, usage, func(values []string) error {
		*to = append(*to, values)
		return noneEmpty(values)
	})
}

// namesVar defines a list flag that keeps each of its values once, in *to.
func namesVar(set *pflag.FlagSet, to *[]string, name, short, kind, usage string) {
	listVar(set, name, short, kind, usage, func(values []string) error {
		for _, v := range values {
			if !slices.Contains(*to, v) {
				*to = append(*to, v)
			}
		}
		return noneEmpty(values)
	})
}

// errEmpty is a value that is empty where a name is wanted.
var errEmpty = errors.New("a value is empty")

// noneEmpty refuses empty values: a script's variable was not set.
func noneEmpty(values []string) error {
	if slices.Contains(values, "") {
		return errEmpty
	}
	return nil
}

// listOption defines a list flag that keeps each of its values once, in *to,
// which is nil until it is given. An empty value stands for an empty list.
func listOption(set *pflag.FlagSet, to *[]string, name, kind, usage string) {
	listVar(set, name, "", kind, usage, func(values []string) error {
		if *to == nil {
			*to = []string{}
		}
		for _, v := range values {
			if v != "" && !slices.Contains(*to, v) {
				*to = append(*to, v)
			}
		}
		return nil
	})
}

// option defines a flag that *to is nil without. standard is what nil stands
// for, for help.
func option[T any](
	set *pflag.FlagSet, to **T, name, short, kind, standard, usage string, parse func(string) (T, error),
) {
	keep := func(text string) error {
		v, err := parse(text)
		if err == nil {
			*to = &v
		}
		return err
	}
	set.VarP(&flag{kind: kind, text: standard, set: keep}, name, short, usage)
}

// textOption defines a flag for any text, which *to is nil without.
func textOption(set *pflag.FlagSet, to **string, name, short, kind, usage string) {
	option(set, to, name, short, kind, "", usage, func(text string) (string, error) { return text, nil })
}

// choiceOption defines a flag for one of a few words, which *to is nil without.
func choiceOption(set *pflag.FlagSet, to **string, name, usage string, choices ...string) {
	parse := func(text string) (string, error) { return choose(text, choices) }
	option(set, to, name, "", strings.Join(choices, "|"), "", usage, parse)
}

// numberOption defines a flag for a whole number, which *to is nil without.
func numberOption(set *pflag.FlagSet, to **int, name, usage string) {
	option(set, to, name, "", "int", "", usage, strconv.Atoi)
}

// switchOption defines a flag that is true or false, which *to is nil without;
// standard is what it is then.
func switchOption(set *pflag.FlagSet, to **bool, name, standard, usage string) {
	option(set, to, name, "", "bool", standard, usage, strconv.ParseBool)
	set.Lookup(name).NoOptDefVal = "true"
}
