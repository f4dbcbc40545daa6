package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

// newPushFixture returns a parent of ship1 and ship2 in a mode, which may change app/*.
func newPushFixture(t *testing.T, mode string) *fixture {
	t.Helper()
	f := newFixture(t, dbtest.SQLite(t))
	f.controlPlane.set(func(p *controlPlane) {
		p.desired.Self.Mode = mode
		p.actions = append(p.actions, "repositories/app/*/content/write", "repositories/app/*/content/delete")
	})
	f.activate(t)
	return f
}

// pushed sends changes as the activated instance of ship1.
func (f *fixture) pushed(t *testing.T, changes ...wire.Change) []wire.ChangeOutcome {
	t.Helper()
	a, err := f.client.Push(t.Context(), wire.PushRequest{InstanceID: "instance", Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	return a.Outcomes
}

// has fails unless tags of a repository are as expected; "" is that there is none.
func (f *fixture) has(t *testing.T, repository string, want map[string]digest.Digest) {
	t.Helper()
	for tag, d := range want {
		m, err := f.Manifest(t.Context(), repository, tag)
		if (err == nil) != (d != "") || err == nil && m.Digest != d {
			t.Errorf("%s:%s is %q, %v; want %q", repository, tag, m.Digest, err, d)
		}
	}
}

func TestMalformedPushesChangeNothing(t *testing.T) {
	f := newPushFixture(t, wire.ModeReadWrite)
	d := f.image("app/a", "1", "v1")
	sent := func(change string) []byte {
		return []byte(`{"name":"ship1","instanceId":"instance","changes":[{"repository":"app/a","tag":"v1","base":"` +
			string(d) + `"},` + change + `]}`)
	}
	field := func(format string, args ...any) []byte { return sent(fmt.Sprintf(format, args...)) }
	other := digest.FromString("2")
	const upper = "sha256:ABCDEF"
	const bad, large = http.StatusBadRequest, http.StatusRequestEntityTooLarge
	long := strings.Repeat("x", 1<<20)
	earlier, err := json.Marshal(make([]digest.Digest, wire.MaxPushEarlier+1))
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat(`{"repository":"app/a","tag":"v1"},`, wire.MaxPushChanges)
	for name, test := range map[string]struct {
		body   []byte
		status int
	}{
		"not JSON":            {[]byte("<xml>"), bad},
		"another type":        {field(`"app/a"`), bad},
		"a long body":         {field(`{"repository":"%s"}`, strings.Repeat(long, 5)), large},
		"a zstd bomb":         {bomb(t, `{"name":"ship1","changes":[`, "{}", 1_390_000, `]}`), large},
		"a digest bomb":       {bomb(t, `{"name":"ship1","changes":[{"earlier":[`, `""`, 1_390_000, `]}]}`), large},
		"too many changes":    {sent(many + `{}`), bad},
		"a long instance":     {[]byte(`{"name":"ship1","instanceId":"` + long + `"}`), bad},
		"no repository":       {field(`{"tag":"v1"}`), bad},
		"a path":              {field(`{"repository":"app/../b","tag":"v1"}`), bad},
		"a long repository":   {field(`{"repository":"%s","tag":"v1"}`, long), bad},
		"a tag with a path":   {field(`{"repository":"app/a","tag":"../v1"}`), bad},
		"a long tag":          {field(`{"repository":"app/a","tag":"%s"}`, long), bad},
		"a digest":            {field(`{"repository":"app/a","tag":"v1","digest":"%s"}`, upper), bad},
		"a base":              {field(`{"repository":"app/a","tag":"v1","digest":"%s","base":"v2"}`, d), bad},
		"an earlier digest":   {field(`{"repository":"app/a","tag":"v1","earlier":["%s"]}`, long), bad},
		"too many earlier":    {field(`{"repository":"app/a","tag":"v1","earlier":%s}`, earlier), bad},
		"a tag to keep":       {field(`{"repository":"app/a","tag":"v1","digest":"%s","keepAs":"a/b"}`, d), bad},
		"the tag to keep":     {field(`{"repository":"app/a","tag":"v1","digest":"%s","keepAs":"v1"}`, d), bad},
		"two items":           {field(`{"repository":"app/a","tag":"v1","manifest":"%s"}`, d), bad},
		"two digests":         {field(`{"repository":"app/a","manifest":"%s","digest":"%s"}`, d, other), bad},
		"a digest of nothing": {field(`{"repository":"app/a","digest":"%s"}`, d), bad},
	} {
		encoding := ""
		if !bytes.HasPrefix(test.body, []byte("{")) && test.status == large {
			encoding = "zstd"
		}
		resp, p := f.post(t, wire.PathPush, encoding, test.body)
		if resp.StatusCode != test.status || p.Code != "INVALID" || len(p.Detail) > 1000 {
			t.Errorf("%s: %d %.300s, want %d", name, resp.StatusCode, p.Detail, test.status)
		}
	}
	f.has(t, "app/a", map[string]digest.Digest{"v1": d}) // each request begins with its removal
}

func TestPushOfOthersContentIsRefused(t *testing.T) {
	f := newPushFixture(t, wire.ModeReadWrite)
	own, secret := f.image("app/a", "1", "v1"), f.image("secret", "2", "v1")
	outcomes := f.pushed(t,
		wire.Change{Repository: "secret", Tag: "v1", Base: secret},
		wire.Change{Repository: "secret", Tag: "v2", Digest: secret},
		wire.Change{Repository: "secret", Manifest: secret},
		wire.Change{Repository: "secret"},
		wire.Change{Repository: "app/a", Tag: "v2", Digest: secret}, // it is not in this repository
		wire.Change{Repository: "app/a", Tag: "v2", Digest: secret, Base: own, KeepAs: "v3"},
		wire.Change{Repository: "app/a", Tag: "v2", Digest: own},
	)
	var got []string
	for _, o := range outcomes {
		got = append(got, o.Status)
		if o.Digest != "" || o.Status == wire.ChangeRefused && o.Seq > 0 {
			t.Errorf("the outcome %+v says what the repository has", o)
		}
	}
	want := []string{wire.ChangeRefused, wire.ChangeRefused, wire.ChangeRefused, wire.ChangeRefused, wire.ChangeMissing,
		wire.ChangeMissing, wire.ChangeAccepted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.has(t, "secret", map[string]digest.Digest{"v1": secret, "v2": ""})
	f.has(t, "app/a", map[string]digest.Digest{"v1": own, "v2": own, "v3": ""})
}

func TestPushNeedsTheRightToEachAction(t *testing.T) {
	f := newPushFixture(t, wire.ModeReadWrite)
	d := f.image("app/a", "1", "v1")
	remove := wire.Change{Repository: "app/a", Tag: "v1", Base: d}
	set := wire.Change{Repository: "app/a", Tag: "v2", Digest: d}
	for action, want := range map[string][]string{
		"content/write":  {wire.ChangeRefused, wire.ChangeAccepted},
		"content/delete": {wire.ChangeAccepted, wire.ChangeRefused},
	} {
		f.Push("app/a", f.manifest("app/a", "1"), "v1")
		f.controlPlane.set(func(p *controlPlane) {
			p.actions = append(shipActions("app/*"), "repositories/app/*/"+action)
		})
		outcomes := f.pushed(t, remove, set)
		if outcomes[0].Status != want[0] || outcomes[1].Status != want[1] {
			t.Errorf("with %s: %+v, want %q", action, outcomes, want)
		}
	}
}

func TestReadOnlyChildPushesNothing(t *testing.T) {
	f := newPushFixture(t, "ReadOnly")
	d := f.image("app/a", "1", "v1")
	for _, o := range f.pushed(t, wire.Change{Repository: "app/a", Tag: "v1", Base: d},
		wire.Change{Repository: "app/a", Tag: "v2", Digest: d}, wire.Change{Repository: "app/a"}) {
		if o.Status != wire.ChangeRefused || !strings.Contains(o.Reason, "ReadOnly") {
			t.Errorf("outcome: %+v", o)
		}
	}
	f.has(t, "app/a", map[string]digest.Digest{"v1": d, "v2": ""})
}

func TestPushWithoutActivationIsRefused(t *testing.T) {
	f := newPushFixture(t, wire.ModeReadWrite)
	d := f.image("app/a", "1", "v1")
	q := wire.PushRequest{InstanceID: "instance", Changes: []wire.Change{{Repository: "app/a", Tag: "v1", Base: d}}}
	stranger := q
	stranger.InstanceID = "another"
	if _, err := f.client.Push(t.Context(), stranger); codeOf(err) != "NOT_ACTIVATED" {
		t.Errorf("another instance: %v", err)
	}
	f.controlPlane.set(func(p *controlPlane) { delete(p.holders, "ship1") })
	if _, err := f.client.Push(t.Context(), q); codeOf(err) != "NOT_ACTIVATED" {
		t.Errorf("after the activation ended: %v", err)
	}
	body := []byte(`{"name":"ship2","instanceId":"instance","changes":[{"repository":"app/a","tag":"v1","base":"` +
		string(d) + `"}]}`)
	if resp, p := f.post(t, wire.PathPush, "", body); resp.StatusCode != http.StatusForbidden {
		t.Errorf("as another connected registry: %d %+v", resp.StatusCode, p)
	}
	if _, err := f.as(t, "wrong").Push(t.Context(), q); codeOf(err) != "UNAUTHORIZED" {
		t.Errorf("with a wrong password: %v", err)
	}
	f.has(t, "app/a", map[string]digest.Digest{"v1": d})
}
