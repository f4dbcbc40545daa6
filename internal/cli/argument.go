package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/terminal"
)

// normalize rewrites the arguments of one command into the form --name=value. Scripts for
// the reference write flags in ways that pflag does not read: several values after one
// flag, the first letters of a flag's name, and a value after a switch (--cleanup true).
//
// The rules for each argument, in their order:
//   - "--" ends the flags. The rest is not changed.
//   - A long flag may be shortened, if exactly one flag that is not hidden begins with
//     those letters. An unknown or ambiguous name is an error.
//   - A flag with a list takes all arguments up to the next that begins with a dash, and
//     at least one.
//   - A flag with a value takes the next argument, also if that begins with a dash, unless
//     it is one of the command's flags.
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

// normalizeFlags rewrites arguments up to the first word that belongs to no flag. It
// returns that word and all after it as words.
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
				out = append(out, arg) // unknown, or several switches in one: pflag decides
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

// takeValue finds the value of f: value if hasValue, else the first of args. It returns
// the flag with its value as one argument, and the rest of args.
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

// findLong returns the flag called name, or the only flag whose name begins with it.
func findLong(flags *pflag.FlagSet, name string) (*pflag.Flag, error) {
	if f := flags.Lookup(name); f != nil {
		return f, nil
	}
	found := candidates(flags, name)
	switch {
	case name == "" || len(found) == 0:
		return nil, unknownFlag(flags, name)
	case len(found) > 1:
		return nil, usagef("--%s could be %s", name, strings.Join(found, ", "))
	}
	return flags.Lookup(strings.TrimPrefix(found[0], "--")), nil
}

// candidates returns the visible flags that begin with prefix, with their dashes and in
// alphabetical order.
func candidates(flags *pflag.FlagSet, prefix string) []string {
	var found []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && strings.HasPrefix(f.Name, prefix) {
			found = append(found, "--"+f.Name)
		}
	})
	return found
}

// isFlag reports whether arg, which stands where a value is expected, is one of the
// command's flags: then the value was forgotten.
func isFlag(flags *pflag.FlagSet, arg string) bool {
	name, long := strings.CutPrefix(arg, "--")
	if long {
		name, _, _ = strings.Cut(name, "=")
		return name == "" || flags.Lookup(name) != nil || len(candidates(flags, name)) > 0
	}
	return len(arg) == 2 && arg[0] == '-' && flags.ShorthandLookup(arg[1:]) != nil
}

// clip shortens an argument for a message.
func clip(s string) string { return terminal.Excerpt(s, 80) }
