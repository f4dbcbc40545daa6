package metadb

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/pressly/goose/v3"
)

func TestAFailedMigrationSaysWhyAndNotWhatFollowed(t *testing.T) {
	full := errors.New("database or disk is full")
	for _, err := range []error{
		full,
		errors.Join(full, sql.ErrTxDone),
		fmt.Errorf("apply: %w", &goose.PartialError{Err: errors.Join(full, sql.ErrTxDone)}),
		&goose.PartialError{Err: errors.Join(full, sql.ErrTxDone)},
	} {
		if got := first(err); !errors.Is(got, full) || got.Error() != full.Error() && got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
