package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/terminal"
)

// The reference's scripts write flags in ways that pflag does not read:
// several values after one flag, a flag by the beginning of its name, and a
// value after a flag that needs none (--cleanup true). normalize rewrites
// such arguments, for the flags of one command, into --name=value.
//
// Rules, in their order, for each argument:
//   - "--" ends the flags; what follows is passed on as it is.
//   - A long flag is the one with that name, else the only one that is not
//     hidden and whose name begins so. None, or several, is an error.
//   - A flag that takes a list takes every argument up to the next that
//     begins with a dash, and at least one.
//   - A flag that takes a value takes the next argument, whatever it looks
//     like, unless it is one of the command's own flags.
//   - A switch takes the next argument if that is "true" or "false".
func normalize(flags *pflag.FlagSet, args []string) ([]string, error) {
	out, words, err := normalizeFlags(flags, args)
	for err == nil && len(words) > 0 && words[0] != "--" {
		var more []string
		out = append(out, words[0])
		more, words, err = normalizeFlags(flags, words[1:])
		out = append(out, more...)
	}
	return append(out, words...), err
}

// normalizeUntilWord is [normalize] for a command that only holds others: the
// first word is the name of one that does not exist, and what follows belongs to
// that, not to the flags of this one.
func normalizeUntilWord(flags *pflag.FlagSet, args []string) ([]string, error) {
	out, words, err := normalizeFlags(flags, args)
	if len(words) > 0 && words[0] != "--" {
		out = append(out, "--")
	}
	return append(out, words...), err
}

// normalizeFlags rewrites arguments up to the first word that is not a flag's,
// and returns what is left from there on.
func normalizeFlags(flags *pflag.FlagSet, args []string) (out, words []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return out, append([]string{arg}, args...), nil
		case strings.HasPrefix(arg, "--"):
			name, value, hasValue := strings.Cut(arg[2:], "=")
			f, err := findLong(flags, name)
			if err != nil {
				return nil, nil, err
			}
			text, rest, err := takeValue(flags, f, value, hasValue, args)
			if err != nil {
				return nil, nil, err
			}
			out, args = append(out, text), rest
		case len(arg) > 1 && arg[0] == '-':
			f := flags.ShorthandLookup(arg[1:2])
			if f == nil || (len(arg) > 2 && f.NoOptDefVal != "") {
				out = append(out, arg) // unknown, or several switches in one: pflag's to judge
				continue
			}
			value, hasValue := strings.TrimPrefix(arg[2:], "="), len(arg) > 2
			text, rest, err := takeValue(flags, f, value, hasValue, args)
			if err != nil {
				return nil, nil, err
			}
			out, args = append(out, text), rest
		default:
			return out, append([]string{arg}, args...), nil
		}
	}
	return out, nil, nil
}

// takeValue gives f its value, from its own argument where hasValue, and else
// from the front of args. It returns the flag as one argument, and what is
// left of args.
func takeValue(flags *pflag.FlagSet, f *pflag.Flag, value string, hasValue bool,
	args []string) (string, []string, error) {
	own, isOwn := f.Value.(*flag)
	isSwitch := f.NoOptDefVal != ""
	values := []string{}
	if hasValue {
		values = append(values, value)
	}
	switch {
	case isOwn && own.list:
		for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			values, args = append(values, args[0]), args[1:]
		}
	case hasValue:
	case isSwitch:
		if len(args) == 0 || (!strings.EqualFold(args[0], "true") && !strings.EqualFold(args[0], "false")) {
			return "--" + f.Name, args, nil
		}
		values, args = append(values, strings.ToLower(args[0])), args[1:]
	case len(args) > 0 && !isFlag(flags, args[0]):
		values, args = append(values, args[0]), args[1:]
	}
	if len(values) == 0 {
		return "", nil, usagef("--%s needs a value", f.Name)
	}
	return "--" + f.Name + "=" + strings.Join(values, separator), args, nil
}

// findLong returns the flag whose name is, or alone begins with, name.
func findLong(flags *pflag.FlagSet, name string) (*pflag.Flag, error) {
	if f := flags.Lookup(name); f != nil {
		return f, nil
	}
	found := candidates(flags, name)
	switch {
	case name == "" || len(found) == 0:
		return nil, usagef("unknown flag --%s", clip(name))
	case len(found) > 1:
		return nil, usagef("--%s could be %s", name, strings.Join(found, ", "))
	}
	return flags.Lookup(strings.TrimPrefix(found[0], "--")), nil
}

// candidates returns the visible flags that begin with prefix, with dashes and
// in alphabetical order.
func candidates(flags *pflag.FlagSet, prefix string) []string {
	var found []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && strings.HasPrefix(f.Name, prefix) {
			found = append(found, "--"+f.Name)
		}
	})
	return found
}

// isFlag reports whether arg, in the place of a value, is one of the
// command's flags: then the value was forgotten.
func isFlag(flags *pflag.FlagSet, arg string) bool {
	name, long := strings.CutPrefix(arg, "--")
	if long {
		name, _, _ = strings.Cut(name, "=")
		return name == "" || flags.Lookup(name) != nil || len(candidates(flags, name)) > 0
	}
	return len(arg) == 2 && arg[0] == '-' && flags.ShorthandLookup(arg[1:]) != nil
}

// clip shortens what a person typed before it goes into a message.
func clip(s string) string { return terminal.Excerpt(s, 80) }
