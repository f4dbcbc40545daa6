package events

import "testing"

// notificationSeeds are patterns, and whether they are valid.
var notificationSeeds = map[string]bool{
	"*:*": true, "*:*:*": true, "*@*:*": true, "repo:myTag:*": true, "path/to/repo/*:push": true,
	"sample/repo/*:1.0:*": true,
	"hello-world:*:*":     true, "a:push": true, "a:1.0:delete": true,
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

func FuzzNotification(f *testing.F) {
	for text := range notificationSeeds {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := ParsePattern(text); err == nil && len(text) > maxPattern {
			t.Error("it is too long")
		}
	})
}
