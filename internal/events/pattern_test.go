package events

import (
	"testing"

	"ferry/internal/metadb"
)

// notificationSeeds are patterns, and whether they are valid.
var notificationSeeds = map[string]bool{
	"*:*": true, "*:*:*": true, "*@*:*": true, "repo:myTag:*": true, "path/to/repo/*:push": true,
	"sample/repo/*:1.0:*": true,
	"hello-world:*:*":     true, "a:push": true, "a:1.0:delete": true, "a:failed": true, "*:first_pull": true,
	"repo@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08:delete": true,
	"": false, "a": false, "a:pull": false, "A:push": false, "a*:push": false, "*/a:push": false, "a:-:push": false,
	"a@x:push": false, ":push": false, "a::push": false,
}

func TestNotificationPatterns(t *testing.T) {
	for text, valid := range notificationSeeds {
		if _, err := ParsePattern(text); (err == nil) != valid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPatternsSelectEvents(t *testing.T) {
	const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	tag := metadb.Event{Type: Push, Repository: "team/app", Tag: "1.0", Digest: digest}
	manifest := metadb.Event{Type: Push, Repository: "team/app", Digest: digest}
	failed := metadb.Event{Type: Failed, Repository: "team/app", Tag: "1.0"}
	other := metadb.Event{Type: Delete, Repository: "teams", Tag: "1.0"}
	lost := metadb.Event{Type: Dropped}
	all := []metadb.Event{tag, manifest, failed, other, lost}
	for text, want := range map[string][]metadb.Event{
		"*:*":                         all,
		"*:*:*":                       {tag, failed, other, lost},
		"*@*:*":                       {manifest, lost},
		"team/*:push":                 {tag, manifest},
		"team/app:1.0:*":              {tag, failed, lost},
		"team/app:2.0:*":              {lost},
		"team/app:failed":             {failed},
		"*:delete":                    {other},
		"team/app@" + digest + ":*":   {tag, manifest, lost},
		"other@" + digest + ":*":      {lost},
		"team/app:1.0@*:push":         {tag},
		"team:*":                      {lost},
		"teams:*:push":                nil,
		"team/app:*@" + digest + ":*": {tag, lost},
	} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []metadb.Event
		for _, e := range all {
			if p.Matches(e) {
				got = append(got, e)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s selects %v", text, got)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s selects %v", text, got)
			}
		}
	}
}

func FuzzNotification(f *testing.F) {
	for text := range notificationSeeds {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePattern(text)
		if err == nil && len(text) > maxPattern {
			t.Error("it is too long")
		}
		p.Matches(metadb.Event{Type: Push, Repository: text, Tag: text, Digest: text})
	})
}
