package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"ferry/internal/api"
)

// VersionHeader is the header with the version of the program at the other end, which a registry
// sends to those who log in.
const VersionHeader = "Ferry-Version"

// checkLogin logs in.
func (e *Endpoint) checkLogin(ctx context.Context) Finding {
	a, err := e.get(ctx, e.client(), "/v2/", e.Login, nil)
	if err != nil {
		return e.noAnswer(err)
	}
	e.welcome = a
	return judgeLogin(a, e.Login, e.URL.Host)
}

// judgeLogin judges the answer to a login.
func judgeLogin(a *answer, l Login, host string) Finding {
	challenge := a.header.Get("WWW-Authenticate")
	switch {
	case a.status == http.StatusOK && l.Name == "":
		return ok("everybody may log in")
	case a.status == http.StatusOK:
		return ok("%s is accepted", l)
	case a.status == http.StatusUnauthorized && l.Name == "":
		return skipped("%s", cmp.Or(l.Absent, "no name and password were given"))
	case a.status == http.StatusUnauthorized && strings.HasPrefix(strings.ToLower(challenge), "bearer") &&
		!strings.Contains(challenge, host):
		return skipped("this registry wants a token of another server")
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return fail("the %s is not accepted: the password is wrong or expired, or the login is disabled", l).
			hint("%s", cmp.Or(l.Remedy, "make a new password, and log in with it"))
	case a.status == http.StatusTooManyRequests:
		return fail("there were too many failed logins from this address").
			hint("wait %s s; find out who logs in with a wrong password", cmp.Or(a.header.Get("Retry-After"), "60"))
	case a.status >= 500:
		return fail("the server answers %d %s", a.status, http.StatusText(a.status)).
			hint("look at the registry's log, and at that of a proxy in front of it")
	case a.status >= 300 && a.status < 400:
		return fail("the server redirects to %s", a.header.Get("Location")).hint("use that address")
	}
	return fail("the server answers %d to /v2/, so it is no registry", a.status).
		hint("check host, port and path of the address")
}

// Differences of clocks that are reported. Beyond the second, Ferry itself reports them.
const (
	skewWarn = 30 * time.Second
	skewFail = 5 * time.Minute
)

// checkClock compares this machine's clock with that of the server.
func (e *Endpoint) checkClock(context.Context) Finding {
	if e.hello == nil {
		return skipped("there was no answer")
	}
	return judgeClock(e.hello)
}

// judgeClock compares the clock with the time in an answer.
func judgeClock(a *answer) Finding {
	text := a.header.Get("Date")
	if text == "" {
		return skipped("the answer has no time")
	}
	there, err := http.ParseTime(text)
	if err != nil {
		return skipped("the answer's time cannot be read")
	}
	// The header has whole seconds, and was written at some moment between both times here.
	ahead, behind := a.sent.Sub(there.Add(time.Second)), there.Sub(a.came)
	skew, direction := ahead, "ahead of"
	if behind > ahead {
		skew, direction = behind, "behind"
	}
	const remedy = "set the clock that is wrong, and run a time service such as chrony or systemd-timesyncd"
	switch {
	case skew > skewFail:
		return fail("this machine's clock is %s %s the server's: certificates, expiry dates and windows fail",
			skew.Round(time.Second), direction).hint(remedy)
	case skew > skewWarn:
		return warn("this machine's clock is %s %s the server's", skew.Round(time.Second), direction).hint(remedy)
	}
	return ok("the clocks agree")
}

// checkVersions compares the version of this program with that of the server's.
func (e *Endpoint) checkVersions(ctx context.Context) Finding {
	there := e.welcome.header.Get(VersionHeader)
	if e.Login.Operator {
		a, err := e.get(ctx, e.client(), api.Root+"/status", e.Login, nil)
		var status api.InstanceStatus
		if err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &status) == nil {
			e.status, there = &status, cmp.Or(there, status.Version)
		}
	}
	if there == "" {
		return skipped("the server does not say its version")
	}
	return judgeVersions(e.Version, there, "the "+e.Role)
}

// judgeVersions compares this program's version with that of another instance.
func judgeVersions(here, there, other string) Finding {
	a, knowsHere := parseVersion(here)
	b, knowsThere := parseVersion(there)
	switch {
	case here == there:
		return ok("both run %s", here)
	case !knowsHere || !knowsThere:
		return warn("this program is %s, and that of %s is %s", here, other, there).
			hint("nothing, if you know why; otherwise install the same release on both")
	case a[0] != b[0]:
		return fail("this program is %s, and that of %s is %s: they may not understand each other", here, other, there).
			hint("install the same major version on both, %s first", other)
	case b[0] == a[0] && b[1] < a[1]:
		return warn("this program, %s, is newer than that of %s, %s", here, other, there).
			hint("upgrade %s: parents are upgraded before their children", other)
	}
	return ok("this program is %s, that of %s is %s", here, other, there)
}

// parseVersion returns the major and minor number of a version such as v1.2.3.
func parseVersion(text string) (v [2]int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(text, "v"), ".", 3)
	if !strings.HasPrefix(text, "v") || len(parts) != 3 {
		return v, false
	}
	for i := range v {
		if parts[i] == "" || len(parts[i]) > 6 {
			return v, false
		}
		for _, r := range parts[i] {
			if r < '0' || r > '9' {
				return v, false
			}
			v[i] = v[i]*10 + int(r-'0')
		}
	}
	return v, true
}
