package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
)

// atMachine has no flags, because no instance runs on Windows.
type atMachine struct {
	dataDir string
}

func (*atMachine) define(*pflag.FlagSet) {}

func (*atMachine) reset(context.Context, *Env, *client, string) error {
	return errors.New("no instance runs on Windows")
}
