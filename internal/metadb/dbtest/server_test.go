package dbtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestServerIsKilledStalledAndStarted(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts PostgreSQL four times")
	}
	s := NewServer(t, "max_connections=20")
	url := s.Create(t, "kept")
	query := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		return conn.Ping(ctx)
	}
	for name, end := range map[string]func(testing.TB){"kill": s.Kill, "stop": s.Stop} {
		end(t)
		if query(time.Minute) == nil {
			t.Errorf("after %s, the server answers", name)
		}
		s.Start(t)
		if err := query(time.Minute); err != nil {
			t.Errorf("after %s and start: %v", name, err)
		}
	}
	s.Stall(t)
	if query(200*time.Millisecond) == nil {
		t.Error("a stalled server answers")
	}
	s.Resume(t)
	if err := query(time.Minute); err != nil {
		t.Errorf("after resume: %v", err)
	}
}
