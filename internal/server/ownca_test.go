package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/config"
	"ferry/internal/tlsca"
)

// A publications records the bundles that an instance publishes. The first tries fail.
type publications struct {
	failures int
	bundles  []string
	at       []time.Duration
	start    time.Time
}

func (p *publications) Publish(_ context.Context, bundle []byte) error {
	if p.failures > 0 {
		p.failures--
		return errors.New("the API is away")
	}
	p.bundles = append(p.bundles, string(bundle))
	p.at = append(p.at, time.Since(p.start))
	return nil
}

func TestCAIsPublishedUntilItSucceedsAndAgainHourly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publications{failures: 5, start: time.Now()}
		c := &ownCA{log: slog.New(slog.DiscardHandler)}
		c.bundle = newPublication(c.log, "the CA", func(ctx context.Context) error {
			return p.Publish(ctx, c.authority.Bundle())
		})
		var err error
		c.authority, err = tlsca.Open(tlsca.Options{Dir: t.TempDir(), Names: func() []string { return []string{"a"} },
			Changed: c.bundle.notify, Log: c.log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.bundle.run(ctx) }()
		time.Sleep(150 * time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(p.bundles) != 3 || p.bundles[0] != string(c.authority.Bundle()) {
			t.Fatalf("it was published at %v", p.at)
		}
		if p.at[0] < 10*time.Second || p.at[0] > time.Minute || p.at[1]-p.at[0] != time.Hour {
			t.Errorf("it was published at %v", p.at)
		}
	})
}

func TestCertificateHasTheNamesOfTheInstance(t *testing.T) {
	for _, test := range []struct {
		cfg  config.Config
		want []string
		not  string
	}{
		{config.Config{Listen: "10.1.1.1:5000", ExternalURL: "https://registry.example:8443"},
			[]string{"10.1.1.1", "registry.example", "ship1", "localhost", "127.0.0.1", "::1"}, "0.0.0.0"},
		{config.Config{Listen: "0.0.0.0:5000"}, []string{"ship1", "localhost"}, "0.0.0.0"},
		{config.Config{Listen: ":5000", TLSNames: "a.example,10.1.1.2", ExternalURL: "https://registry.example"},
			[]string{"a.example", "10.1.1.2", "localhost", "127.0.0.1", "::1"}, "registry.example"},
	} {
		got := serverNames(test.cfg, "ship1")
		for _, name := range test.want {
			if !slices.Contains(got, name) {
				t.Errorf("%+v: %v lacks %s", test.cfg, got, name)
			}
		}
		if slices.Contains(got, test.not) {
			t.Errorf("%+v: %v has %s", test.cfg, got, test.not)
		}
	}
}
