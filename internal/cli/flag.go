package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"ferry/internal/schedule"
)

// A flag is the value of a command's flag.
type flag struct {
	kind string // the kind of value, for help, such as NAME
	text string // its value, or the default, for help
	list bool   // one or more values may follow it; set gets them joined by separator
	set  func(text string) error

	choices []string // the words that it allows; nil is any text
}

var _ pflag.Value = (*flag)(nil)

// separator joins the values of one flag, because pflag accepts only one. No argument of a
// process can contain it.
const separator = "\x00"

func (f *flag) Set(text string) error {
	err := f.set(text)
	if err == nil {
		f.text = text
	}
	return err
}

func (f *flag) String() string { return f.text }

// Type implements [pflag.Value].
func (f *flag) Type() string { return f.kind }

// textVar defines a flag for a text that is not empty, and stores the text in *to.
func textVar(set *pflag.FlagSet, to *string, name, short, kind, usage string) {
	keep := func(text string) error { *to = text; return noneEmpty([]string{text}) }
	set.VarP(&flag{kind: kind, text: *to, set: keep}, name, short, usage)
}

// timeVar defines a flag for a time in UTC, and stores the time in *to.
func timeVar(set *pflag.FlagSet, to *time.Time, name, usage string) {
	keep := func(text string) (err error) {
		if *to, err = time.Parse("2006-01-02T15:04:05Z", text); err != nil {
			return errors.New("want a time in UTC, such as 2031-12-31T12:59:59Z")
		}
		return nil
	}
	set.Var(&flag{kind: "TIME", set: keep}, name, usage)
}

// periodVar defines a flag for a period, and stores it in *to. Help shows standard as the default, which is
// that of *to.
func periodVar(set *pflag.FlagSet, to *time.Duration, name, standard, usage string) {
	keep := func(text string) (err error) {
		*to, err = schedule.ParsePeriod(text)
		return err
	}
	set.Var(&flag{kind: "PERIOD", text: standard, set: keep}, name, usage)
}

// A moment is a time, or a period before the time when the command runs. The zero value is neither.
type moment struct {
	at  time.Time
	ago *time.Duration
}

// momentVar defines a flag for a time in UTC, or a period back from now, and stores it in *to.
func momentVar(set *pflag.FlagSet, to *moment, name, usage string) {
	keep := func(text string) error {
		if ago, err := schedule.ParsePeriod(text); err == nil {
			*to = moment{ago: &ago}
			return nil
		}
		at, err := time.Parse("2006-01-02T15:04:05Z", text)
		if err != nil {
			return errors.New("want a time in UTC, such as 2031-12-31T12:59:59Z, or a period back from now, " +
				"such as 90m, 24h or 7d")
		}
		*to = moment{at: at}
		return nil
	}
	set.Var(&flag{kind: "TIME", set: keep}, name, usage)
}

// time returns the moment; the zero time if it is none.
func (m moment) time(now time.Time) time.Time {
	if m.ago != nil {
		return now.Add(-*m.ago).UTC()
	}
	return m.at
}

// choiceVar defines a flag for one of a few words, in any case, and stores the word in *to
// as it is spelt in choices. The default is standard, which may be "".
func choiceVar(set *pflag.FlagSet, to *string, name, short, standard, usage string, choices ...string) {
	*to = standard
	keep := func(text string) (err error) {
		*to, err = choose(text, choices)
		return err
	}
	defineChoice(set, &flag{text: standard, set: keep, choices: choices}, name, short, usage)
}

// maxChoiceWidth bounds the words that help shows beside the name of a flag, in characters. It
// shows longer ones behind the text, because they would move the text of all flags to the right.
const maxChoiceWidth = 20

// defineChoice defines a flag for one of its choices.
func defineChoice(set *pflag.FlagSet, f *flag, name, short, usage string) {
	if f.kind = strings.Join(f.choices, "|"); len(f.kind) > maxChoiceWidth {
		f.kind = strings.ToUpper(name[strings.LastIndex(name, "-")+1:])
		usage += "; one of " + strings.Join(f.choices, ", ")
	}
	set.VarP(f, name, short, usage)
}

// choose returns the member of choices that equals text, ignoring case.
func choose(text string, choices []string) (string, error) {
	for _, c := range choices {
		if strings.EqualFold(c, text) {
			return c, nil
		}
	}
	return "", fmt.Errorf("want one of %s", strings.Join(choices, ", "))
}

// listVar defines a flag that takes one or more values and may be repeated, such as in
// --repository a b --repository c. It calls add for each flag, with all its values.
func listVar(set *pflag.FlagSet, name, short, kind, usage string, add func(values []string) error) {
	split := func(text string) error { return add(strings.Split(text, separator)) }
	set.VarP(&flag{kind: kind, list: true, set: split}, name, short, usage)
}

// groupsVar defines a list flag that stores the values of each flag as one element of *to.
func groupsVar(set *pflag.FlagSet, to *[][]string, name, kind, usage string) {
	listVar(set, name, "", kind, usage, func(values []string) error {
		*to = append(*to, values)
		return noneEmpty(values)
	})
}

// namesVar defines a list flag that stores each of its values once in *to.
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

// errEmpty says that a value is empty where a text is required.
var errEmpty = errors.New("a value is empty")

// noneEmpty refuses empty values, because usually a variable of a script was not set.
func noneEmpty(values []string) error {
	if slices.Contains(values, "") {
		return errEmpty
	}
	return nil
}

// listOption defines a list flag that stores each of its values once in *to. Without the
// flag, *to stays nil. An empty value stands for an empty list.
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

// labelsVar defines a list flag for labels, and stores them in *to. Without the flag, *to stays nil.
func labelsVar(set *pflag.FlagSet, to *map[string]string, name, usage string) {
	listVar(set, name, "", "KEY=VALUE...", usage, func(values []string) error {
		if *to == nil {
			*to = map[string]string{}
		}
		for _, v := range values {
			key, text, ok := strings.Cut(v, "=")
			if !ok || key == "" {
				return fmt.Errorf("'%.100s' is not a label: want KEY=VALUE", v)
			}
			(*to)[key] = text
		}
		return nil
	})
}

// option defines a flag that stores its value in *to. Without the flag, *to stays nil. Help
// shows standard as the default.
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

// textOption defines an [option] for any text.
func textOption(set *pflag.FlagSet, to **string, name, short, kind, usage string) {
	option(set, to, name, short, kind, "", usage, func(text string) (string, error) { return text, nil })
}

// choiceOption defines an [option] for one of a few words.
func choiceOption(set *pflag.FlagSet, to **string, name, usage string, choices ...string) {
	keep := func(text string) error {
		v, err := choose(text, choices)
		if err == nil {
			*to = &v
		}
		return err
	}
	defineChoice(set, &flag{set: keep, choices: choices}, name, "", usage)
}

// numberOption defines an [option] for a whole number.
func numberOption(set *pflag.FlagSet, to **int, name, usage string) {
	option(set, to, name, "", "int", "", usage, strconv.Atoi)
}

// switchOption defines an [option] that is true or false.
func switchOption(set *pflag.FlagSet, to **bool, name, standard, usage string) {
	option(set, to, name, "", "bool", standard, usage, strconv.ParseBool)
	set.Lookup(name).NoOptDefVal = "true"
}
