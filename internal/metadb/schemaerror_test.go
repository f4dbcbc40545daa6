package metadb

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"
)

func TestFailedMigrationReportsOnlyTheCause(t *testing.T) {
	full := errors.New("database or disk is full")
	for _, err := range []error{
		full,
		errors.Join(full, sql.ErrTxDone),
		fmt.Errorf("apply: %w", &goose.PartialError{Err: errors.Join(full, sql.ErrTxDone)}),
		&goose.PartialError{Err: errors.Join(full, sql.ErrTxDone)},
		fmt.Errorf("failed to initialize: %w",
			errors.Join(fmt.Errorf("create version table: %w", full), sql.ErrTxDone)),
	} {
		if got := firstError(err); !errors.Is(got, full) || strings.Contains(got.Error(), sql.ErrTxDone.Error()) {
			t.Errorf("%v became %v", err, got)
		}
	}
}
