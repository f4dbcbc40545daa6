package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// find returns the command that args name, and the other arguments. Flags may stand before the
// words of the command and between them. An unknown word is an error, whatever flags stand beside
// it. A line that begins as one of the reference does, with acr or az acr, is taken without that.
func find(root *cobra.Command, args []string) (*cobra.Command, []string, error) {
	if len(args) > 0 && args[0] == "az" {
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "acr" {
		args = args[1:]
	}
	cmd, rest := root, []string{}
	for cmd.HasSubCommands() && len(args) > 0 && args[0] != "--" {
		var flags []string
		if flags, args = cutFlags(cmd, args, 0); len(flags) > 0 {
			rest = append(rest, flags...)
			continue
		}
		next := subcommand(cmd, args[0])
		if next == nil {
			return nil, nil, unknownCommand(cmd, args[0], append(rest, args...))
		}
		cmd, args = next, args[1:]
	}
	return cmd, append(rest, args...), nil
}

// subcommand returns the command called name right below cmd; nil if there is none.
func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// cutFlags cuts the flags with their values off the beginning of args. An unknown flag has at most
// unknown values.
func cutFlags(cmd *cobra.Command, args []string, unknown int) (flags, words []string) {
	n := 0
	for n < len(args) && strings.HasPrefix(args[n], "-") && args[n] != "-" && args[n] != "--" {
		arg := args[n]
		n++
		values, isSwitch := valuesOf(cmd, arg, unknown)
		for first := true; n < len(args) && values > 0 && !strings.HasPrefix(args[n], "-"); first = false {
			if !first && subcommand(cmd, args[n]) != nil {
				break // a list of values ends before a command
			}
			n++
			values--
		}
		if isSwitch && n < len(args) && (strings.EqualFold(args[n], "true") || strings.EqualFold(args[n], "false")) {
			n++
		}
	}
	return args[:n], args[n:]
}

// maxValues is more values than a flag with a list gets on any command line.
const maxValues = 1 << 20

// valuesOf returns how many of the next arguments may be values of a flag, which is one of cmd or
// of a command below it, and whether the flag is a switch. An unknown flag takes unknown values.
func valuesOf(cmd *cobra.Command, arg string, unknown int) (values int, isSwitch bool) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	long := strings.HasPrefix(arg, "--")
	if hasValue || name == "" || !long && len(name) > 1 {
		return 0, false
	}
	isKnown := false
	visitFlags(cmd, func(f *pflag.Flag) {
		if long && !strings.HasPrefix(f.Name, name) || !long && f.Shorthand != name {
			return
		}
		isKnown = true
		own, isOwn := f.Value.(*flag)
		switch {
		case isOwn && own.list:
			values = maxValues
		case f.NoOptDefVal != "":
			isSwitch = true
		default:
			values = max(values, 1)
		}
	})
	if !isKnown {
		values = unknown
	}
	return values, isSwitch
}

// visitFlags calls visit with each flag of a command, of those above and of those below.
func visitFlags(cmd *cobra.Command, visit func(*pflag.Flag)) {
	cmd.InheritedFlags().VisitAll(visit)
	var below func(*cobra.Command)
	below = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(visit)
		for _, c := range cmd.Commands() {
			below(c)
		}
	}
	below(cmd)
}

// unknownCommand returns the error for args, of which word is no command below cmd. The hint has the
// line with the nearest command; whatever is no word of that stays where it is. Nobody knows whether an
// unknown flag has a value, so both are tried.
func unknownCommand(cmd *cobra.Command, word string, args []string) error {
	err := usagef("%s has no command %q", cmd.CommandPath(), clip(word))
	typed := strings.Fields(cmd.CommandPath())[1:]
	var best []near
	var at []int // where the words stand in args
	for unknown := range 2 {
		positions := wordsOf(cmd, args, unknown)
		words := slices.Clone(typed)
		for _, i := range positions {
			words = append(words, args[i])
		}
		found := nearest(cmd.Root(), words, len(typed))
		if len(found) > 0 && (len(best) == 0 || found[0].compare(best[0]) < 0) {
			best, at = found, positions
		}
	}
	var lines []string
	for _, n := range best {
		rest := slices.Clone(args)
		for _, i := range slices.Backward(at[:min(len(at), max(0, n.used-len(typed)))]) {
			rest = slices.Delete(rest, i, i+1)
		}
		lines = append(lines, correctedCommand(n.path, rest))
	}
	if len(lines) == 0 {
		return withHint(err, "see %s --help", cmd.CommandPath())
	}
	return withHint(err, "did you mean %s?", strings.Join(lines, " or "))
}

// wordsOf returns the positions in args of all that is neither a flag nor the value of one, before --. An
// unknown flag has at most unknown values.
func wordsOf(cmd *cobra.Command, args []string, unknown int) (positions []int) {
	for left := args; len(left) > 0 && left[0] != "--"; {
		var flags []string
		if flags, left = cutFlags(cmd, left, unknown); len(flags) == 0 {
			positions = append(positions, len(args)-len(left))
			left = left[1:]
		}
	}
	return positions
}

// correctedCommand returns the line of a command, up to a password, which must not be in a log.
func correctedCommand(path string, args []string) string {
	line := "ferry " + path
	for _, arg := range args {
		if strings.HasPrefix(arg, "-p") || strings.HasPrefix(arg, "--pass") {
			return line + " ..."
		}
		line += " " + quoted(arg)
	}
	return line
}

// A near is a command that is like a few typed words.
type near struct {
	path     string // without the program
	used     int    // how many of the words stand for it
	distance int
}

// compare orders commands by their likeness, the most like first.
func (n near) compare(other near) int {
	return cmp.Or(cmp.Compare(n.distance, other.distance), cmp.Compare(other.used, n.used))
}

// synonyms are words that other programs have for the verbs of this one. The map is never written.
var synonyms = map[string]string{
	"ls": "list", "get": "show", "describe": "show", "inspect": "show", "rm": "delete", "remove": "delete",
	"new": "create", "add": "create", "set": "update", "edit": "update", "start": "serve", "run": "serve",
	"tags": "show-tags", "status": "sync-status", "repo": "repository", "repos": "repository",
	"cr": "connected-registry",
}

// maxNear bounds the number of commands that an error proposes.
const maxNear = 3

// nearest returns the commands that are most like words: spelt in almost the same way, with the
// verb before the noun, with another word for the verb, or without the noun. The first known words
// are those of a command that exists.
func nearest(root *cobra.Command, words []string, known int) (best []near) {
	variants := [][]string{words}
	if len(words) > 1 {
		variants = append(variants, append([]string{words[1], words[0]}, words[2:]...), // list token
			append([]string{words[0] + "-" + words[1]}, words[2:]...)) // connected registry
	}
	consider := func(n near) {
		n.distance += 2 * max(0, len(words)-n.used) // the rest would be arguments
		switch {
		case n.used <= known:
		case len(best) == 0 || n.compare(best[0]) < 0:
			best = []near{n}
		case n.compare(best[0]) == 0 && !slices.Contains(best, n):
			best = append(best, n)
		}
	}
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		for _, c := range cmd.Commands() {
			if !c.IsAvailableCommand() && c.Name() != "help" {
				continue
			}
			path := append(slices.Clone(path), c.Name())
			for i, typed := range variants {
				used := len(path)
				if i == 2 {
					used++
				}
				if d, ok := pathDistance(path, typed); ok && (i != 1 || used > 1) && (i != 2 || d < 2) {
					consider(near{strings.Join(path, " "), used, d*2 + min(i, 1)})
				}
			}
			if d, ok := pathDistance(path[1:], words); ok && len(path) > 1 { // the noun is missing
				consider(near{strings.Join(path, " "), len(path) - 1, d*2 + 3})
			}
			walk(c, path)
		}
	}
	walk(root, nil)
	if len(best) > maxNear {
		return nil // it could be anything
	}
	return best
}

// pathDistance returns how much words differ from the words of a path, if each is like its
// counterpart.
func pathDistance(path, words []string) (sum int, ok bool) {
	if len(words) < len(path) {
		return 0, false
	}
	for i, name := range path {
		d := levenshtein(name, strings.ToLower(words[i]))
		if strings.HasPrefix(name, words[i]) || synonyms[words[i]] == name {
			d = min(d, 1)
		}
		if d > 2 || d*2 > len(name) {
			return 0, false
		}
		sum += d
	}
	return sum, true
}

// nearestOf returns the name that is most like a typed one; "" if none is.
func nearestOf(typed string, names []string) (best string) {
	least := min(2, len(typed)/2) + 1
	for _, name := range names {
		if d := levenshtein(strings.ToLower(name), strings.ToLower(typed)); d < least {
			best, least = name, d
		}
	}
	return best
}

// levenshtein returns how many bytes of a must be inserted, deleted or replaced to make b.
func levenshtein(a, b string) int {
	if max(len(a), len(b)) > 200 { // no name is so long
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// needsCommand is the error for a group without the name of a command.
func needsCommand(cmd *cobra.Command) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return withHint(usagef("%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", ")),
		"see %s --help", cmd.CommandPath())
}

// isGroup reports whether a command only has commands below it.
func isGroup(cmd *cobra.Command) bool {
	own := 0
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "version" {
			own++
		}
	})
	return cmd.HasSubCommands() && own == 0
}

// asksForHelp reports whether arguments have the flag for help, or for the version.
func asksForHelp(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return arg == "-h" || len(arg) > 2 && (strings.HasPrefix("--help", arg) || strings.HasPrefix("--version", arg))
	})
}

// flagNames returns the names of the visible flags of a set, with dashes.
func flagNames(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// unknownFlag is the error for a flag that does not exist, with the nearest that does.
func unknownFlag(flags *pflag.FlagSet, name string) error {
	err := usagef("unknown flag --%s", clip(name))
	if near := nearestOf("--"+name, flagNames(flags)); near != "" {
		return withHint(err, "did you mean %s?", near)
	}
	return err
}
