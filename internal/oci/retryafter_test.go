package oci

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, "3600": time.Hour,
		"3601": time.Hour, "99999999999": time.Hour, "99999999999999999999999": time.Hour,
		now.Add(time.Minute).Format(http.TimeFormat):    time.Minute,
		now.Add(time.Minute).Format(time.RFC850):        time.Minute,
		now.Add(time.Minute).Format(time.ANSIC):         time.Minute,
		now.AddDate(500, 0, 0).Format(http.TimeFormat):  time.Hour,
		now.AddDate(-500, 0, 0).Format(http.TimeFormat): 0,
		"": 0, "soon": 0, "-7": 0, "+7": 0, "7.5": 0, "7s": 0, " 7": 0,
	} {
		if got := ParseRetryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, s := range []string{"7", "99999999999999999999999", "Mon, 04 May 2026 03:03:01 GMT",
		"Monday, 04-May-26 03:03:01 UTC", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if pause := ParseRetryAfter(s, now); pause < 0 || pause > maxRetryAfter {
			t.Errorf("%q: %v", s, pause)
		}
	})
}
