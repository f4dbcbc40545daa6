package metadb

import (
	"encoding/json"
	"fmt"
	"time"
)

// millis returns a time as it is stored; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// An instant scans a column that [millis] wrote, as a time in UTC.
type instant time.Time

// at returns the destination of a column with a time.
func at(t *time.Time) *instant { return (*instant)(t) }

// Scan implements [sql.Scanner].
func (i *instant) Scan(column any) error {
	ms, ok := column.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", column)
	}
	if *i = (instant{}); ms != 0 {
		*i = instant(time.UnixMilli(ms).UTC())
	}
	return nil
}

// parsed is the destination of a column with JSON.
type parsed struct{ into any }

// Scan implements [sql.Scanner].
func (p parsed) Scan(column any) error {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("JSON is stored as %T", column)
	}
	return json.Unmarshal([]byte(text), p.into)
}
