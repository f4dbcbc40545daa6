package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/events"
	"ferry/internal/wire"
)

// maxEventFile bounds the files of a local webhook, in bytes.
const maxEventFile = 256 << 10

// openEvents creates the service that records and delivers events. It needs the database only.
func (in *instance) openEvents(ctx context.Context, cfg config.Config, parent *wire.ConnectionString) (err error) {
	o := events.Options{DB: in.db, Log: in.log, Source: strings.TrimSuffix(cfg.ExternalURL, "/")}
	if parent == nil {
		o.Key, err = in.sealKey(cfg, events.KeyFile, "set the URI, the headers and the secret of webhooks again")
		if err != nil {
			return err
		}
	} else {
		o.Registry = parent.Name
		o.Notifications = func() []string {
			if self := in.control.State().Registry(parent.Name); self != nil {
				return self.Settings.Notifications
			}
			return nil
		}
		o.AuditShipped = func() bool {
			self := in.control.State().Registry(parent.Name)
			return self != nil && self.Settings.AuditLogs
		}
	}
	if o.Local, err = localSubscribers(cfg, in); err != nil {
		return err
	}
	in.events, err = events.New(ctx, o)
	return err
}

// localSubscribers returns the subscribers in the settings.
func localSubscribers(cfg config.Config, in *instance) (all []events.Local, err error) {
	if cfg.Hook != "" {
		if err := events.CheckHook(cfg.Hook); err != nil {
			return nil, withHint(err, "hook is the absolute path of a program, such as /usr/local/bin/on-image")
		}
		hook := &events.Hook{Program: cfg.Hook, Timeout: cfg.HookTimeout, Log: in.log}
		all = append(all, events.Local{Name: events.LocalHook, Endpoint: cfg.Hook, Receiver: hook})
	}
	if cfg.Webhook == "" {
		return all, nil
	}
	spec, secrets := events.WebhookSpec{Actions: events.Types()}, events.WebhookSecrets{URI: cfg.Webhook}
	secret, err := readEventFile(cfg.WebhookSecretFile)
	if err == nil {
		secrets.Key, err = events.ParseSecret(secret)
	}
	if err == nil && cfg.WebhookCA != "" {
		spec.Authority, err = readEventFile(cfg.WebhookCA)
	}
	if err == nil {
		err = spec.Check()
	}
	if err == nil {
		err = secrets.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	endpoint := events.NewEndpoint(spec, secrets, time.Now)
	return append(all, events.Local{Name: events.LocalWebhook, Endpoint: secrets.Endpoint(), Receiver: endpoint}), nil
}

func readEventFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEventFile))
	return string(text), err
}
