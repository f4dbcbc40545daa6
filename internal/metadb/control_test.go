package metadb_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// at is a time that a row can hold.
var at = time.Date(2030, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

// update and view run fn in a transaction that must succeed.
func update(t *testing.T, db *metadb.DB, fn func(tx *metadb.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, db *metadb.DB, fn func(tx *metadb.Tx) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestScopeMapKeepsCreationTimeAndCountsEdits(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		m := metadb.ScopeMap{Name: "m", Description: "d", Type: "UserDefined",
			Actions: []string{"repositories/a/content/read"}, CreatedAt: at}
		changed := m
		changed.Actions, changed.CreatedAt = nil, at.Add(time.Hour)
		changed.AnonymousNetworks = []string{"10.0.0.0/8", "::1/128"}
		update(t, db, func(tx *metadb.Tx) error { return errors.Join(tx.PutScopeMap(m), tx.PutScopeMap(changed)) })
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.ScopeMap("m")
			changed.Actions, changed.CreatedAt, changed.Version, changed.Seq = []string{}, at, 2, 2
			if diff := cmp.Diff(changed, got); diff != "" {
				t.Error(diff)
			}
			all, listErr := tx.ScopeMaps()
			n, countErr := tx.CountScopeMaps()
			if len(all) != 1 || n != 1 {
				t.Errorf("%d rows, counted %d", len(all), n)
			}
			return errors.Join(err, listErr, countErr)
		})
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.DeleteScopeMap("m"); err != nil {
				return err
			}
			if _, err := tx.ScopeMap("m"); !errors.Is(err, metadb.ErrNotFound) {
				t.Error(err)
			}
			if err := tx.DeleteScopeMap("m"); !errors.Is(err, metadb.ErrNotFound) {
				t.Error(err)
			}
			return nil
		})
	})
}

func TestTokenIsReadAsWritten(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		row := metadb.Token{Name: "line1", ScopeMap: "m", Status: "enabled", CreatedAt: at, Version: 1, Seq: 1,
			Passwords: []metadb.Password{
				{Name: "password1", Hash: "h1", CreatedAt: at},
				{Name: "password2", Hash: "h2", CreatedAt: at, ExpiresAt: at.AddDate(7000, 0, 0)},
			}}
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.PutToken(row),
				tx.PutToken(metadb.Token{Name: "Line2", Status: "disabled", CreatedAt: at}))
		})
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Token("line1")
			if diff := cmp.Diff(row, got); diff != "" {
				t.Error(diff)
			}
			if _, err := tx.Token("LINE1"); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("a token is found in another case: %v", err)
			}
			all, listErr := tx.Tokens()
			if len(all) != 2 || all[0].Name != "Line2" {
				t.Errorf("%+v", all)
			}
			some, someErr := tx.TokensOf("m")
			n, countErr := tx.CountTokens()
			if len(some) != 1 || n != 2 {
				t.Errorf("%d of the scope map, %d in all", len(some), n)
			}
			return errors.Join(err, listErr, someErr, countErr)
		})
	})
}

func TestConnectedRegistryIsFoundInAnyCase(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		row := metadb.ConnectedRegistry{Name: "Ship01", Parent: "p", SyncToken: "s",
			Spec: json.RawMessage(`{"mode":"ReadOnly"}`), CreatedAt: at}
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.PutConnectedRegistry(row); err != nil {
				return err
			}
			return errors.Join(tx.SetConnectedRegistryStatus("Ship01", json.RawMessage(`{"x":1}`)),
				tx.SetActivation("Ship01", "one"))
		})
		changed := row
		changed.Spec, changed.InstanceID = json.RawMessage(`{"mode":"ReadWrite"}`), "ignored"
		update(t, db, func(tx *metadb.Tx) error { return tx.PutConnectedRegistry(changed) })
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.ConnectedRegistry("sHIP01")
			want := changed
			want.Status, want.InstanceID, want.Version = json.RawMessage(`{"x":1}`), "one", 2
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
		twin := row
		twin.Name = "SHIP01"
		if err := db.Update(t.Context(),
			func(tx *metadb.Tx) error { return tx.PutConnectedRegistry(twin) }); err == nil {
			t.Error("two names differ only in their case")
		}
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.SetConnectedRegistryStatus("nosuch", json.RawMessage(`{}`)); !errors.Is(err,
				metadb.ErrNotFound) {
				t.Error(err)
			}
			return tx.DeleteConnectedRegistry("Ship01")
		})
	})
}

func TestOperatorIsReadAsWritten(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		row := metadb.Operator{Name: "admin", Role: "admin", PasswordHash: "$argon2id$", CreatedAt: at}
		update(t, db, func(tx *metadb.Tx) error { return tx.PutOperator(row) })
		changed := row
		changed.PasswordHash, changed.CreatedAt = "other", at.Add(time.Hour)
		changed.Limits = metadb.OperatorLimits{Repositories: []string{"team/*"}, Labels: []string{"group=baltic"}}
		update(t, db, func(tx *metadb.Tx) error { return tx.PutOperator(changed) })
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.Operators()
			changed.CreatedAt, changed.Version = at, 2
			if diff := cmp.Diff([]metadb.Operator{changed}, all); diff != "" {
				t.Error(diff)
			}
			return err
		})
	})
}

func TestAPIKeysEndWithTheirOperator(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		key := metadb.APIKey{Operator: "ci", Name: "k", Hash: "h", Role: "reader", CreatedAt: at, ExpiresAt: at,
			Limits: metadb.OperatorLimits{Repositories: []string{"team/*"}, Labels: []string{}}}
		other := key
		other.Operator, other.Hash = "other", "h2"
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.PutOperator(metadb.Operator{Name: "ci", CreatedAt: at}), tx.AddAPIKey(key),
				tx.AddAPIKey(other), tx.SetAPIKeyUsed("h", at.Add(time.Hour)))
		})
		if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.AddAPIKey(key) }); err == nil {
			t.Error("a key is added twice")
		}
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.APIKeysOf("ci")
			key.UsedAt = at.Add(time.Hour)
			if diff := cmp.Diff([]metadb.APIKey{key}, all); diff != "" {
				t.Error(diff)
			}
			return err
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteOperator("ci") })
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.APIKeys()
			if diff := cmp.Diff([]metadb.APIKey{other}, all); diff != "" {
				t.Error(diff)
			}
			return err
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteAPIKey("other", "k") })
	})
}

func TestAuditLogKeepsTheLastEntries(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		for _, object := range []string{"a", "b", "c", "d"} {
			update(t, db, func(tx *metadb.Tx) error {
				return tx.AddAudit(metadb.AuditEntry{At: at, Actor: "admin", Action: "create", Object: object}, 3)
			})
		}
		view(t, db, func(tx *metadb.Tx) error {
			all, err := tx.Audit(metadb.AuditQuery{Before: 4, Limit: 10})
			if len(all) != 2 || all[0].Object != "c" || all[0].ID != 3 || !all[0].At.Equal(at) || all[1].Object != "b" {
				t.Errorf("%+v", all)
			}
			return err
		})
	})
}

func TestMissingSettingIsEmpty(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		for _, want := range []string{"", "1", "2"} {
			update(t, db, func(tx *metadb.Tx) error {
				if want != "" {
					if err := tx.SetSetting("x", want); err != nil {
						return err
					}
				}
				got, err := tx.Setting("x")
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
				return err
			})
		}
	})
}
