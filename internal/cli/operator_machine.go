//go:build !windows

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/server"
)

// atMachine are the flags of a command on the machine of an instance.
type atMachine struct {
	dataDir, file, database string
}

func (m *atMachine) define(set *pflag.FlagSet) {
	textVar(set, &m.dataDir, "data-dir", "", "DIR",
		"the data directory of an instance on this machine, instead of --registry; needs no login")
	textVar(set, &m.file, "config", "", "FILE", "with --data-dir: the settings of the instance")
	textVar(set, &m.database, "database", "", "URL", "with --data-dir: the database, if ferry serve has this flag, too")
}

// reset gives an operator of the instance a new password, and shows it. The running instance does
// it itself, so that the old password ends there at once.
func (m *atMachine) reset(ctx context.Context, env *Env, c *client, operator string) error {
	post := call{method: http.MethodPost, path: resourcePath(operators.kind, operator, "password")}
	v, err := ask[api.PasswordPost](ctx, c, post)
	if errors.As(err, new(notRunningError)) {
		v.value.Password, err = m.resetStopped(ctx, env, operator)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Stderr, "note: the password is shown only this once; store it safely")
	return m.show(env, operator, v.value.Password)
}

// show shows a password in the form of an answer.
func (m *atMachine) show(env *Env, operator, password string) error {
	type answer struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	v := result[answer]{value: answer{operator, password}}
	var err error
	if v.raw, err = json.Marshal(v.value); err != nil {
		return err
	}
	return show(env, v, []column[answer]{
		{title: "NAME", text: func(a answer) string { return a.Name }},
		{title: "PASSWORD", text: func(a answer) string { return a.Password }, whole: true},
	})
}

func (m *atMachine) resetStopped(ctx context.Context, env *Env, operator string) (string, error) {
	given := map[string]string{"data-dir": m.dataDir}
	if m.database != "" {
		given["database"] = m.database
	}
	cfg, err := config.Load(cmp.Or(m.file, env.Getenv("FERRY_CONFIG")), env.LookupEnv, given)
	if err != nil {
		return "", usageError{err}
	}
	return server.ResetPassword(ctx, cfg, operator, slog.New(slog.DiscardHandler))
}
