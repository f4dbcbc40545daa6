package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/terminal"
)

// An importSpec has the settings of an import, without the access to its source.
type importSpec struct {
	Source     string   `json:"source"`
	Images     []string `json:"images,omitempty"`
	Repository string   `json:"repository,omitempty"`
	Force      bool     `json:"force,omitempty"`
	Targets    []string `json:"targets"`
}

// newImportRow returns the row of a new import.
func (s *Service) newImportRow(q ImportRequest, from Image, to []destination) (row metadb.Import, err error) {
	v := importSpec{Source: q.Source, Images: q.Images, Repository: q.Repository, Force: q.Force}
	for _, d := range to {
		v.Targets = append(v.Targets, d.String())
	}
	row = metadb.Import{
		ID: importID(q.Source, to), Actor: q.Actor, Sender: q.Sender, State: string(ImportPending),
		StartedAt: s.Now().Truncate(time.Millisecond), Status: json.RawMessage("{}"),
	}
	if row.Spec, err = json.Marshal(v); err != nil {
		return row, err
	}
	row.Secret, err = s.sealAccess(from.Location, q.access())
	return row, err
}

// importRow returns the row of an import. The error wraps [ErrNoImport] if there is none.
func importRow(tx *metadb.Tx, id string) (metadb.Import, error) {
	row, err := tx.Import(id)
	if errors.Is(err, metadb.ErrNotFound) {
		err = ErrNoImport
	}
	return row, err
}

// importOf returns the import of a row. If it runs in this process, its status is current.
func (s *Service) importOf(row metadb.Import) (i Import, err error) {
	var v importSpec
	if err := errors.Join(json.Unmarshal(row.Spec, &v), json.Unmarshal(row.Status, &i.ImportStatus)); err != nil {
		return i, fmt.Errorf("read import %s: %w", row.ID, err)
	}
	i.ID, i.Source, i.Targets = row.ID, v.Source, v.Targets
	i.State, i.StartedAt, i.EndedAt = ImportState(row.State), row.StartedAt, row.EndedAt
	if i.EndedAt.IsZero() {
		if j := s.importJob(row); j != nil {
			i.ImportStatus = j.status()
		}
	}
	return i, nil
}

// withState returns row with the state of i.
func withState(row metadb.Import, i Import) metadb.Import {
	text, err := json.Marshal(i.ImportStatus)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	row.State, row.EndedAt, row.Status = string(i.State), i.EndedAt, text
	return row
}

// sealAccess encrypts the access to the source at l; "" is none.
func (s *Service) sealAccess(l Location, a access) (string, error) {
	if a == (access{}) {
		return "", nil
	}
	text, err := json.Marshal(a)
	return s.Key.Encrypt(l, string(text)), err
}

// openAccess decrypts the access to the source at l.
func (s *Service) openAccess(l Location, sealed string) (a access, err error) {
	if sealed == "" {
		return a, nil
	}
	text, err := s.Key.Decrypt(l, sealed)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(text), &a)
}

// sameSettings reports whether a request agrees with an import of the same ID in all other settings.
func (s *Service) sameSettings(row metadb.Import, q ImportRequest, from Image) bool {
	var v importSpec
	a, err := s.openAccess(from.Location, row.Secret)
	return err == nil && json.Unmarshal(row.Spec, &v) == nil && v.Force == q.Force && a == q.access()
}

// maxOutcome bounds the outcome of an import in the audit log, in bytes.
const maxOutcome = 500

// audit writes an entry of the audit log about an import.
func (s *Service) audit(tx *metadb.Tx, row metadb.Import, sender, action, detail string) error {
	if s.Audit == nil {
		return nil
	}
	return s.Audit(row.Actor, sender, action, "imports/"+row.ID, terminal.Excerpt(detail, maxOutcome))(tx)
}
