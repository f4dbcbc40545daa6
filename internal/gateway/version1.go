package gateway

import (
	"bytes"
	"encoding/json"

	"ferry/internal/jsonlimit"
	"ferry/internal/wire"
)

// Version 1 of the protocol has other names for some members of its JSON objects, and the
// same values. They are replaced in the text: no string has the bytes "name": because its
// quotes are escaped, and both sides write no space before the colon. A reader knows the
// names of both versions. A writer uses those of version 1 unless the other side is known to
// read version 2.

// A rename is the name of a member in two versions, with its quotes and its colon.
type rename struct{ version1, version2 string }

// reportRenames returns the renames within a report.
func reportRenames() []rename {
	return []rename{{`"open":`, `"outOfSync":`}, {`"from":`, `"sender":`}, {`"why":`, `"reason":`}}
}

// planRenames returns the renames within an entry of a plan.
func planRenames() []rename {
	return []rename{{`"told":`, `"complete":`}, {`"ways":`, `"fetchMethods":`}}
}

// toVersion1 returns text with the names of version 1.
func toVersion1(text []byte, renames []rename) []byte {
	for _, r := range renames {
		if bytes.Contains(text, []byte(r.version2)) {
			text = bytes.ReplaceAll(text, []byte(r.version2), []byte(r.version1))
		}
	}
	return text
}

// fromVersion1 returns text with today's names. The error is [jsonlimit.ErrTooLarge] if that has
// more than limit bytes.
func fromVersion1(text []byte, renames []rename, limit int) ([]byte, error) {
	size := len(text)
	for _, r := range renames {
		size += bytes.Count(text, []byte(r.version1)) * (len(r.version2) - len(r.version1))
	}
	if size > limit {
		return nil, jsonlimit.ErrTooLarge
	}
	for _, r := range renames {
		if bytes.Contains(text, []byte(r.version1)) {
			text = bytes.ReplaceAll(text, []byte(r.version1), []byte(r.version2))
		}
	}
	return text, nil
}

// A pollRequest1 is a poll with the names of version 1.
type pollRequest1 wire.PollRequest

// MarshalJSON implements [json.Marshaler].
func (q pollRequest1) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(wire.PollRequest(q))
	return toVersion1(text, reportRenames()), err
}
