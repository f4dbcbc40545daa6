package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// errDeclined is what a command returns when the answer was no.
var errDeclined = errors.New("nothing was done")

// A confirmation is a question that --yes answers.
type confirmation struct {
	yes bool
}

func (c *confirmation) define(set *pflag.FlagSet) {
	set.BoolVarP(&c.yes, "yes", "y", false, "do not ask for confirmation")
}

// ask returns nil when the answer is yes. Without a terminal to ask at, only
// --yes is one. The question goes to standard error, so that the output of a
// command whose output is kept stays clean.
func (c *confirmation) ask(env *Env, question string, args ...any) error {
	if c.yes {
		return nil
	}
	question = fmt.Sprintf(question, args...)
	if !isTerminal(env.Stdin) {
		return withHint(fmt.Errorf("%s There is no terminal to ask at", question), "add --yes")
	}
	in := bufio.NewReader(env.Stdin)
	for range 3 {
		fmt.Fprintf(env.Stderr, "%s (y/n): ", question)
		answer, err := in.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		case "n", "no":
			return errDeclined
		}
		if err != nil {
			break
		}
	}
	return errDeclined
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
