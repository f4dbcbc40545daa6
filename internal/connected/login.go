package connected

import (
	"context"
	"errors"
	"net/http"
	"time"

	"ferry/internal/credential"
	"ferry/internal/gateway"
	"ferry/internal/schedule"
	"ferry/internal/wire"
)

// withLogin makes a request, with one login after the other until the parent does not refuse one. A
// join token is first exchanged for a password. The error is that of the last try.
func (a *Agent) withLogin(ctx context.Context, request func() error) error {
	for {
		login := a.credentials.Login()
		a.parent.Connect(login)
		var err error
		if login.JoinToken != "" {
			err = a.join(ctx, login)
		} else if err = request(); err == nil {
			a.credentials.Accepted(login)
			return nil
		}
		if err != nil && (!isRefusedLogin(err) || !a.credentials.Refused(login)) {
			return err
		}
	}
}

// isRefusedLogin reports whether the parent refused the name, the password or the join token.
func isRefusedLogin(err error) bool {
	answer, ok := errors.AsType[*gateway.AnswerError](err)
	return ok && answer.Status == http.StatusUnauthorized
}

// join exchanges the join token of a login.
func (a *Agent) join(ctx context.Context, login wire.ConnectionString) error {
	hash, err := a.credentials.Join(login)
	if err != nil {
		return err
	}
	err = a.parent.Join(ctx, wire.JoinRequest{
		InstanceID: a.options.InstanceID, Version: a.options.Version, Hash: hash,
	})
	if err == nil {
		a.credentials.Joined(login)
	}
	return err
}

// passwordChanges returns what to ask the parent for: a new password of this registry, and those of
// its descendants.
func (a *Agent) passwordChanges() []wire.PasswordChange {
	changes := a.options.Fleet.PasswordChanges()
	if own := a.credentials.Change(a.rotateEvery()); own != nil {
		own.Name = a.options.Name
		changes = append(changes, *own)
	}
	return changes
}

// rotateEvery returns how often this registry replaces its password; 0 is never. If this program
// cannot read the setting, because a newer parent may know more forms, it is the default.
func (a *Agent) rotateEvery() time.Duration {
	every, err := schedule.ParseRotation(a.current().Self.RotatePasswordEvery)
	if err != nil {
		every, _ = schedule.ParseRotation("")
	}
	return every
}

// applyToLogin follows what a desired state says of the login at the parent. An address that the
// parent announces is used only if the parent has proved that it is the parent, which it does with TLS.
func (a *Agent) applyToLogin(d *wire.Desired) {
	var passwords []wire.Password
	if d.OwnToken != nil {
		passwords = d.OwnToken.Passwords
	}
	a.credentials.SetKnown(passwords)
	if a.credentials.Login().Protocol == "https" {
		a.credentials.Announce(d.ParentEndpoint)
	}
}

// answerTime is how long [Agent.SetConnection] waits for the parent's answer.
const answerTime = 5 * time.Second

// SetConnection puts a connection string in force, for the same connected registry, and tries it at
// once. It waits a while for the parent's answer to it.
func (a *Agent) SetConnection(ctx context.Context, c wire.ConnectionString) credential.State {
	a.credentials.Set(c)
	a.log.Info("an operator has given this registry other credentials", "parent", c.Endpoint)
	a.wake()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		state, changed := a.credentials.State()
		if state != credential.Untried {
			return state
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return credential.Untried
		}
	}
}

// Connection returns the connection string in force, with its password.
func (a *Agent) Connection() wire.ConnectionString { return a.credentials.InForce() }
