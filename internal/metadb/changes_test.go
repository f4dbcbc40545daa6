package metadb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// follow returns a second process on the database of db, and its follower.
func follow(t *testing.T, db *metadb.DB) (*metadb.DB, *metadb.Follower) {
	t.Helper()
	other := open(t, db.URL())
	other.Share()
	f, err := other.Follow(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return other, f
}

// names makes a follower collect the names of repositories that changed; "*" is everything.
func names(f *metadb.Follower) func() []string {
	var mu sync.Mutex
	var all []string
	f.Apply(func(_ *metadb.Tx, c metadb.Changes) error {
		mu.Lock()
		defer mu.Unlock()
		if all = append(all, c.Names(metadb.RepositoryTopic)...); c.All {
			all = append(all, "*")
		}
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		taken := all
		all = nil
		return taken
	}
}

func mustCatchUp(t *testing.T, f *metadb.Follower) {
	t.Helper()
	if err := f.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func touch(repository string) func(*metadb.Tx) error {
	return func(tx *metadb.Tx) error {
		_, err := tx.AdvanceFeed(repository, 1)
		return err
	}
}

func TestFollowerAppliesChangesOfOthersOnly(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		update(t, db, touch("before"))
		other, f := follow(t, db)
		got := names(f)
		mustCatchUp(t, f)
		update(t, other, touch("own"))
		update(t, db, touch("a"))
		update(t, db, func(tx *metadb.Tx) error { return errors.Join(touch("b")(tx), touch("c")(tx), touch("b")(tx)) })
		mustCatchUp(t, f)
		mustCatchUp(t, f)
		if names := got(); !slices.Equal(names, []string{"a", "b", "c"}) {
			t.Errorf("changes of %v are applied", names)
		}
	})
}

func TestEveryWriteOfCachedContentIsRecorded(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		_, f := follow(t, db)
		got := names(f)
		const d = "sha256:aa"
		for action, write := range map[string]func(*metadb.Tx) error{
			"a push": func(tx *metadb.Tx) error {
				_, err := tx.PutManifest(metadb.Manifest{Repository: "r", Digest: d}, nil)
				return err
			},
			"a tag":        func(tx *metadb.Tx) error { return tx.SetTag("r", "t", d, 1, epoch) },
			"a repository": func(tx *metadb.Tx) error { _, err := tx.AdvanceFeed("r", 1); return err },
		} {
			update(t, db, write)
			if mustCatchUp(t, f); !slices.Equal(got(), []string{"r"}) {
				t.Errorf("%s is not recorded", action)
			}
		}
		update(t, db, func(tx *metadb.Tx) error { return tx.TouchRepository("r", epoch) })
		for action, write := range map[string]func(*metadb.Tx) error{
			"a lock of a tag":        func(tx *metadb.Tx) error { return tx.SetTagLocks("r", "t", 1, 2) },
			"a lock of a manifest":   func(tx *metadb.Tx) error { return tx.SetManifestLocks("r", d, 1, 2) },
			"a lock of a repository": func(tx *metadb.Tx) error { return tx.SetRepositoryLocks("r", 1) },
			"damage": func(tx *metadb.Tx) error {
				_, err := tx.DamageManifest(metadb.Damage{Repository: "r", Digest: d})
				return err
			},
		} {
			update(t, db, write)
			if mustCatchUp(t, f); !slices.Equal(got(), []string{"r"}) {
				t.Errorf("%s is not recorded", action)
			}
		}
		for _, write := range []func(*metadb.Tx) error{
			func(tx *metadb.Tx) error { return tx.DeleteTag("r", "t") },
			func(tx *metadb.Tx) error { return tx.DeleteManifest("r", d, 1) },
			func(tx *metadb.Tx) error { return tx.DeleteRepository("r") },
		} {
			update(t, db, write)
			if mustCatchUp(t, f); !slices.Equal(got(), []string{"r"}) {
				t.Error("a deletion is not recorded")
			}
		}
	})
}

func TestFollowerThatMissedChangesForgetsEverything(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		_, f := follow(t, db)
		got := names(f)
		update(t, db, touch("a"))
		update(t, db, touch("b"))
		if err := db.Exec(t.Context(), `DELETE FROM changes WHERE id = 1`); err != nil {
			t.Fatal(err)
		}
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"*"}) {
			t.Error("after trimmed changes, not everything is forgotten")
		}
		update(t, db, func(tx *metadb.Tx) error {
			for n := range 2000 {
				tx.Changed(metadb.RepositoryTopic, fmt.Sprint(n))
			}
			return nil
		})
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"*"}) {
			t.Error("after a very large change, not everything is forgotten")
		}
	})
}

func TestFollowerAppliesFailedChangesAgain(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		_, f := follow(t, db)
		failures := 1
		f.Apply(func(*metadb.Tx, metadb.Changes) error {
			if failures--; failures >= 0 {
				return metadb.ErrNotFound
			}
			return nil
		})
		got := names(f)
		update(t, db, touch("a"))
		if err := f.CatchUp(t.Context()); err == nil {
			t.Error("a failure is no error")
		}
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"a"}) {
			t.Error("changes are lost after a failure")
		}
	})
}

func TestCatchingUpTogetherMissesNoChange(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		_, f := follow(t, db)
		var mu sync.Mutex
		applied := map[string]bool{}
		f.Apply(func(_ *metadb.Tx, c metadb.Changes) error {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range c.Names(metadb.RepositoryTopic) {
				applied[name] = true
			}
			return nil
		})
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				for i := range 10 {
					name := fmt.Sprint(n, "/", i)
					update(t, db, touch(name))
					mustCatchUp(t, f)
					mu.Lock()
					if !applied[name] {
						t.Errorf("the change of %s is not applied", name)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
	})
}

func TestFollowerLearnsOfChangesWithoutAsking(t *testing.T) {
	db := dbtest.Postgres(t)
	db.Share()
	_, f := follow(t, db)
	applied := make(chan bool, 100)
	f.Apply(func(*metadb.Tx, metadb.Changes) error { applied <- true; return nil })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	for range 3 {
		update(t, db, touch("a"))
		<-applied
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFollowerMissesNothingWhenConnectionsAreLost(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry")})
	db.Share()
	_, f := follow(t, db)
	got := names(f)
	var starts sync.WaitGroup
	defer starts.Wait()
	for name, lose := range map[string]func(){
		"terminated": func() { s.TerminateAll(t) },
		"restarting": func() { s.Kill(t); starts.Go(func() { s.Start(t) }) },
	} {
		starts.Wait()
		mustCatchUp(t, f)
		lose()
		if mustCatchUp(t, f); len(got()) > 0 {
			t.Errorf("%s: changes without a change", name)
		}
		update(t, db, touch(name))
		if mustCatchUp(t, f); !slices.Equal(got(), []string{name}) {
			t.Errorf("%s: the next change is not known at once", name)
		}
	}
}

// A newer version of the program may write topics, and forms of changes, that this one does not know.
func TestUnknownChangesForgetEverything(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		db.Share()
		_, f := follow(t, db)
		got := names(f)
		update(t, db, func(tx *metadb.Tx) error { tx.Changed("future", "x"); return nil })
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"*"}) {
			t.Error("an unknown topic is ignored")
		}
		if err := db.Exec(t.Context(), `INSERT INTO changes (id, process, changed)
			SELECT MAX(id) + 1, 'new', '{"version": 2}' FROM changes`); err != nil {
			t.Fatal(err)
		}
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"*"}) {
			t.Error("an unknown form is ignored")
		}
		update(t, db, touch("a"))
		if mustCatchUp(t, f); !slices.Equal(got(), []string{"a"}) {
			t.Error("what follows is not read")
		}
	})
}

func TestEveryTopicIsKnown(t *testing.T) {
	source, err := os.ReadFile("changes.go")
	if err != nil {
		t.Fatal(err)
	}
	topics := regexp.MustCompile(`Topic +Topic = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(topics) < 10 {
		t.Fatalf("only %d topics are found", len(topics))
	}
	db := dbtest.SQLite(t)
	db.Share()
	_, f := follow(t, db)
	got := names(f)
	for _, topic := range topics {
		update(t, db, func(tx *metadb.Tx) error { tx.Changed(metadb.Topic(topic[1]), "a"); return nil })
		if mustCatchUp(t, f); slices.Contains(got(), "*") {
			t.Errorf("a change of %s makes others forget everything", topic[1])
		}
	}
}

func TestChangesAreReadThroughConnectionsThatAreOpen(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t, "max_connections=8", "superuser_reserved_connections=0", "autovacuum=off",
		"max_wal_senders=0")
	url := s.Create(t, "ferry")
	db := openWith(t, metadb.Options{URL: url, Readers: 2, Writers: 1})
	db.Share()
	f, err := db.Follow(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	defer dbtest.TakeConnections(t, url)()
	mustCatchUp(t, f)
}
