package metadb_test

import (
	"errors"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestDatabaseHasOneOwnerOrSeveralThatShare(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	for first, allowed := range map[metadb.Ownership]metadb.Ownership{
		metadb.Alone: metadb.Unowned, metadb.Together: metadb.Together,
	} {
		db := openWith(t, metadb.Options{URL: url, Ownership: first})
		for _, second := range []metadb.Ownership{metadb.Alone, metadb.Together} {
			other, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Ownership: second})
			if (err == nil) != (second == allowed) || err != nil && !errors.Is(err, metadb.ErrInUse) {
				t.Errorf("%d beside %d = %v", second, first, err)
			}
			if err == nil {
				other.Close()
			}
		}
		db.Close()
	}
	openWith(t, metadb.Options{URL: url, Ownership: metadb.Alone})
}

func TestLostOwnershipIsRegainedBeforeTheNextWrite(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	db := openWith(t, metadb.Options{URL: url, Ownership: metadb.Alone})
	for range 3 {
		s.TerminateAll(t)
		if err := errors.Join(readSetting(t, db), writeSetting(t, db)); err != nil {
			t.Error(err)
		}
		if _, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Ownership: metadb.Alone}); !errors.Is(err,
			metadb.ErrInUse) {
			t.Errorf("a second process = %v, want %v", err, metadb.ErrInUse)
		}
	}
}

func TestNothingIsWrittenWhileAnotherOwnsTheDatabase(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: url, Ownership: metadb.Alone, Log: log.logger()})
	other := openWith(t, metadb.Options{URL: url})
	lock := db.StealOwnership(t.Context(), other.NewSession())
	if err := writeSetting(t, db); !errors.Is(err, metadb.ErrUnavailable) {
		t.Errorf("update = %v, want %v", err, metadb.ErrUnavailable)
	}
	log.await(t, "another process uses the database")
	lock.Release()
	if err := writeSetting(t, db); err != nil {
		t.Error(err)
	}
}
