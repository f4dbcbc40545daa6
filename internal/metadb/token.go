package metadb

import (
	"encoding/json"
	"errors"
	"time"
)

// A Token is a row of tokens.
type Token struct {
	Name      string
	ScopeMap  string // "" is none
	Status    string // enabled or disabled
	Passwords []Password
	CreatedAt time.Time
	Version   int64 // counts edits, beginning at 1
	Seq       int64 // sequence number of the last change of ScopeMap
}

// A Password is one of a token's password slots. Only its hash is stored.
type Password struct {
	Name      string    `json:"name"` // password1 or password2
	Hash      string    `json:"hash"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"` // zero is never
	Rotated   bool      `json:"rotated,omitempty"`  // the connected registry has made it itself
}

const tokenColumns = `name, scope_map, status, passwords, created_at, version, seq`

func (t *Token) fields() []any {
	return []any{&t.Name, &t.ScopeMap, &t.Status, parsed{&t.Passwords}, at(&t.CreatedAt), &t.Version, &t.Seq}
}

// Token returns the token name.
func (tx *Tx) Token(name string) (Token, error) {
	return get[Token](tx, "read token "+name, `SELECT `+tokenColumns+` FROM tokens WHERE name = $1`, name)
}

// Tokens returns every token, by name.
func (tx *Tx) Tokens() ([]Token, error) {
	return list[Token](tx, "list tokens", `SELECT `+tokenColumns+` FROM tokens ORDER BY name`)
}

// TokensOf returns the tokens that have the scope map, by name.
func (tx *Tx) TokensOf(scopeMap string) ([]Token, error) {
	return list[Token](tx, "list tokens of scope map "+scopeMap,
		`SELECT `+tokenColumns+` FROM tokens WHERE scope_map = $1 ORDER BY name`, scopeMap)
}

// CountTokens returns the number of tokens.
func (tx *Tx) CountTokens() (int, error) {
	return get[int](tx, "count tokens", `SELECT COUNT(*) FROM tokens`)
}

// PutToken writes a token. A row of the same name keeps its creation time, and its version is
// incremented. If its scope map changes, it takes the next sequence number of the feed. The
// version and the number of t are ignored.
func (tx *Tx) PutToken(t Token) error {
	tx.wrote(TokenRow, t.Name)
	if t.Passwords == nil {
		t.Passwords = []Password{}
	}
	old, err := tx.Token(t.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if t.Seq = old.Seq; err != nil || old.ScopeMap != t.ScopeMap {
		if t.Seq, err = tx.SkipFeed(); err != nil {
			return err
		}
	}
	passwords, err := json.Marshal(t.Passwords)
	if err != nil {
		return err
	}
	return tx.do("write token "+t.Name, `INSERT INTO tokens (`+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6)
		ON CONFLICT (name) DO UPDATE SET scope_map = excluded.scope_map, status = excluded.status,
		passwords = excluded.passwords, version = tokens.version + 1, seq = excluded.seq`,
		t.Name, t.ScopeMap, t.Status, string(passwords), millis(t.CreatedAt), t.Seq)
}

// DeleteToken removes a token.
func (tx *Tx) DeleteToken(name string) error {
	tx.wrote(TokenRow, name)
	return tx.one("delete token "+name, `DELETE FROM tokens WHERE name = $1`, name)
}
