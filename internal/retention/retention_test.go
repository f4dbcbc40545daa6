package retention_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/retention"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// holders are the connected registries of a test.
type holders []retention.Holder

func (h *holders) Holders(context.Context) ([]retention.Holder, error) { return *h, nil }

// A fixture is a root whose clock the test sets.
type fixture struct {
	storagetest.Content
	*retention.Service
	t       *testing.T
	now     time.Time
	holders holders
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)}
	start, clock := f.now, func() time.Time { return f.now }
	f.Content = storagetest.New(t, storage.Options{
		Now: clock, Uptime: func() time.Duration { return f.now.Sub(start) },
	})
	f.Service = retention.New(retention.Options{Storage: f.Storage, DB: f.DB, Fleet: &f.holders, Now: clock})
	return f
}

// push pushes a small image an hour after the last one.
func (f *fixture) push(repository, seed string, tags ...string) digest.Digest {
	f.t.Helper()
	f.now = f.now.Add(time.Hour)
	return f.Push(repository, f.Image(repository, "config "+seed, []byte("layer "+seed)), tags...).Digest
}

// purge does all steps of a purge.
func (f *fixture) purge(p retention.Policy, dry bool) retention.Result {
	f.t.Helper()
	all := retention.Result{Removed: []retention.Item{}, Kept: []retention.Item{}}
	for q := (retention.Step{Policy: p, DryRun: dry}); ; {
		r, err := f.Purge(f.t.Context(), q)
		if err != nil {
			f.t.Fatal(err)
		}
		all.Add(r)
		if q.Next = r.Next; q.Next == "" {
			return all
		}
	}
}

// tags returns the tags of a repository, and manifests the number of its manifests.
func (f *fixture) tags(repository string) string {
	f.t.Helper()
	names, err := f.TagNames(f.t.Context(), repository, "", 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func (f *fixture) manifests(repository string) int {
	f.t.Helper()
	r, err := f.Repository(f.t.Context(), repository)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Manifests
}

// names returns the tags and digests of items, with their reasons.
func names(items []retention.Item) (all []string) {
	for _, i := range items {
		name := i.Tag
		if name == "" {
			name = i.Digest.Encoded()[:6]
		}
		all = append(all, strings.TrimSpace(name+" "+i.Reason+" "+strings.Join(i.Registries, ",")))
	}
	slices.Sort(all)
	return all
}

func short(d digest.Digest) string { return d.Encoded()[:6] }

func TestFiftyMovesOfATagLeaveOneManifest(t *testing.T) {
	f := newFixture(t)
	var last digest.Digest
	for i := range 51 {
		last = f.push("app", fmt.Sprint(i), "latest")
	}
	policy := retention.Policy{Filters: []string{"app:.*"}, Untagged: true}
	planned := f.purge(policy, true)
	if n := f.manifests("app"); n != 51 {
		t.Fatalf("a dry run left %d manifests", n)
	}
	done := f.purge(policy, false)
	if diff := cmp.Diff(planned, done); diff != "" {
		t.Errorf("-dry run +purge:\n%s", diff)
	}
	if n := f.manifests("app"); n != 1 || done.Manifests != 50 || done.Bytes == 0 {
		t.Errorf("%d manifests are left; %+v", n, done)
	}
	if tag, err := f.Tag(t.Context(), "app", "latest"); err != nil || tag.Digest != last {
		t.Errorf("latest is %s, %v", tag.Digest, err)
	}
	before := f.bytes()
	f.now = f.now.Add(2 * time.Hour)
	if _, err := f.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	manifests := int64(0)
	for range done.Removed {
		manifests += f.manifestSize(last)
	}
	if freed := before - f.bytes(); freed != done.Bytes-manifests {
		t.Errorf("a collection freed %d bytes of blobs, the purge announced %d", freed, done.Bytes-manifests)
	}
}

// bytes returns the size of all blobs.
func (f *fixture) bytes() int64 {
	f.t.Helper()
	total, err := metadb.Read(f.t.Context(), f.DB, (*metadb.Tx).TotalOfBlobs)
	if err != nil {
		f.t.Fatal(err)
	}
	return total.Bytes
}

func (f *fixture) manifestSize(d digest.Digest) int64 {
	f.t.Helper()
	m, err := f.DescribeManifest(f.t.Context(), "app", d)
	if err != nil {
		f.t.Fatal(err)
	}
	return m.Size
}

func TestTagsGoByAgeCountAndPattern(t *testing.T) {
	f := newFixture(t)
	for i := range 6 {
		f.push("team/app", fmt.Sprint("dev", i), fmt.Sprint("dev-", i))
	}
	f.push("team/app", "rel", "v1")
	f.push("other", "x", "dev-0")
	f.now = f.now.Add(48 * time.Hour)
	f.push("team/app", "young", "dev-young")
	for name, c := range map[string]struct {
		filters string
		ago     string
		keep    int
		want    string
	}{
		"age":         {"team/app:^dev-", "2d4h30m", 0, "dev-0 dev-1 dev-2 dev-3"},
		"count":       {"team/*:^dev-", "", 2, "dev-0 dev-1 dev-2 dev-3 dev-4"},
		"both":        {"team/a.*:^dev-", "2d4h30m", 4, "dev-0 dev-1 dev-2"},
		"many kept":   {"*:^dev-", "", 7, ""},
		"no such":     {"team:.*", "", 1, ""},
		"everything":  {"*:.", "0d", 0, "dev-0 dev-0 dev-1 dev-2 dev-3 dev-4 dev-5 dev-young v1"},
		"two filters": {"other:. team/app:^v", "1h", 0, "dev-0 v1"},
	} {
		policy := retention.Policy{Filters: strings.Fields(c.filters), Ago: c.ago, Keep: c.keep}
		if got := strings.Join(names(f.purge(policy, true).Removed), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	f.purge(retention.Policy{Filters: []string{"team/app:^dev-"}, Ago: "1d", Keep: 2}, false)
	if got := f.tags("team/app"); got != "dev-5 dev-young v1" {
		t.Errorf("tags %q", got)
	}
	if n := f.manifests("team/app"); n != 8 {
		t.Errorf("%d manifests: a purge without untagged leaves them", n)
	}
}

// TestReferencedManifestsStay has an index, signatures, and a signature of a signature. They go only
// together with the image.
func TestReferencedManifestsStay(t *testing.T) {
	f := newFixture(t)
	image := f.push("app", "1", "v1")
	child := f.push("app", "2")
	index := f.Push("app", storagetest.Index(storagetest.ReferenceFor("linux/amd64", child)), "multi").Digest
	sign := func(seed string, subject digest.Digest) digest.Digest {
		m := f.Image("app", "signature "+seed)
		m.Subject = new(storagetest.Reference(subject))
		return f.Push("app", m).Digest
	}
	signature := sign("a", image)
	nested := sign("b", signature)
	ofIndex := sign("c", index)
	f.now = f.now.Add(48 * time.Hour)
	policy := retention.Policy{Filters: []string{"app:^none$"}, Untagged: true}
	if r := f.purge(policy, false); r.Manifests != 0 || r.Held != 0 {
		t.Fatalf("%+v", r)
	}
	for _, tag := range []string{"v1", "multi"} {
		if err := f.DeleteTag(t.Context(), "app", tag); err != nil {
			t.Fatal(err)
		}
	}
	planned := f.purge(policy, true)
	want := []string{short(image), short(child), short(index), short(signature), short(nested), short(ofIndex)}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(planned.Removed)); diff != "" {
		t.Errorf("dry run: %s", diff)
	}
	if diff := cmp.Diff(names(planned.Removed), names(f.purge(policy, false).Removed)); diff != "" {
		t.Errorf("-dry run +purge:\n%s", diff)
	}
	if n := f.manifests("app"); n != 0 {
		t.Errorf("%d manifests are left", n)
	}
}

func TestLocksAndPushesInProgressHoldAPurgeBack(t *testing.T) {
	f := newFixture(t)
	v1, v2 := f.push("app", "1", "v1"), f.push("app", "2", "v2")
	f.push("closed", "3", "v1")
	locks := map[[2]string]storage.Locks{
		{"app", "v1"}: storage.NoWrite, {"app", string(v2)}: storage.NoDelete, {"closed", ""}: storage.NoWrite,
	}
	for name, l := range locks {
		if err := f.ChangeLocks(t.Context(), name[0], name[1], storage.LockChange{Set: l}); err != nil {
			t.Fatal(err)
		}
	}
	coming := f.push("app", "4")
	policy := retention.Policy{Filters: []string{"*:."}, Ago: "0d", Untagged: true}
	for _, dry := range []bool{true, false} {
		r := f.purge(policy, dry)
		if diff := cmp.Diff([]string{"v2"}, names(r.Removed)); diff != "" {
			t.Errorf("removed: %s", diff)
		}
		want := []string{short(coming) + " Young", short(v2) + " Locked", "v1 Locked"}
		slices.Sort(want)
		got := slices.DeleteFunc(r.Kept, func(i retention.Item) bool { return i.Repository == "closed" })
		if diff := cmp.Diff(want, names(got)); diff != "" {
			t.Errorf("held: %s", diff)
		}
		if r.Held != len(got)+1 {
			t.Errorf("%d are held, want the locked repository, too", r.Held)
		}
	}
	if _, err := f.Manifest(t.Context(), "app", string(v1)); err != nil {
		t.Error(err)
	}
}

// TestAManifestWaitsForConnectedRegistries moves a tag. The old image stays until each connected
// registry has heard of that, or was silent for as long as its message TTL.
func TestAManifestWaitsForConnectedRegistries(t *testing.T) {
	f := newFixture(t)
	old := f.push("app", "1", "v1")
	f.push("app", "2", "v1")
	all := func(string) bool { return true }
	nothing := func(string, digest.Digest) bool { return false }
	head := func() (head int64) {
		err := f.View(t.Context(), func(v *storage.View) (err error) { head, _, err = v.FeedHead(); return err })
		if err != nil {
			t.Fatal(err)
		}
		return head
	}
	f.holders = holders{
		{Name: "behind", Watermark: head() - 1, TTL: 24 * time.Hour, Includes: all, InFlight: nothing},
		{Name: "fetching", Watermark: head(), TTL: 24 * time.Hour, Includes: all,
			InFlight: func(_ string, d digest.Digest) bool { return d == old }},
		{Name: "current", Watermark: head(), TTL: 24 * time.Hour, Includes: all, InFlight: nothing},
		{Name: "elsewhere", TTL: 24 * time.Hour, Includes: func(string) bool { return false }, InFlight: nothing},
	}
	policy := retention.Policy{Filters: []string{"app:."}, Untagged: true}
	held := func(want ...string) {
		t.Helper()
		for _, dry := range []bool{true, false} {
			if diff := cmp.Diff(want, names(f.purge(policy, dry).Kept)); diff != "" {
				t.Errorf("held: %s", diff)
			}
		}
	}
	held(short(old) + " Unheard behind,fetching")
	f.holders[0].Watermark = head()
	held(short(old) + " Unheard fetching")
	f.now = f.now.Add(25 * time.Hour)
	if r := f.purge(policy, false); r.Manifests != 1 || r.Held != 0 {
		t.Errorf("%+v", r)
	}
	// A tag that the purge itself removes is news for everybody.
	f.push("app", "3", "v2")
	policy = retention.Policy{Filters: []string{"app:^v2$"}, Ago: "0d", Untagged: true}
	for _, dry := range []bool{true, false} {
		if r := f.purge(policy, dry); r.Tags != 1 && dry || r.Manifests != 0 || r.Held != 1 {
			t.Errorf("dry %v: %+v", dry, r)
		}
	}
}

// TestPurgeOfUnlistedManifestsTellsNobody checks that the feed does not move, so that connected
// registries list nothing anew.
func TestPurgeOfUnlistedManifestsTellsNobody(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		f.push("app", fmt.Sprint(i), "latest")
	}
	var before, after int64
	view := func(n *int64) {
		err := f.View(t.Context(), func(v *storage.View) (err error) { *n, _, err = v.FeedHead(); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	view(&before)
	f.purge(retention.Policy{Filters: []string{"app:."}, Untagged: true}, false)
	if view(&after); before != after {
		t.Errorf("the feed is at %d, was at %d", after, before)
	}
}

func TestAStepIsBoundedAndContinues(t *testing.T) {
	f := newFixture(t)
	for i := range 1200 {
		f.Push("app", f.Image("app", fmt.Sprint("config ", i)), "latest", fmt.Sprint("t", i))
	}
	f.now = f.now.Add(48 * time.Hour)
	policy := retention.Policy{Filters: []string{"app:^t"}, Ago: "1d", Untagged: true}
	r, err := f.Purge(t.Context(), retention.Step{Policy: policy})
	if err != nil || r.Next == "" || len(r.Removed) < 1000 {
		t.Errorf("%d items, next %q, %v", len(r.Removed), r.Next, err)
	}
	for _, next := range []string{`{"repository":"../x"}`, "x", "null", "[]"} {
		wrong := retention.Step{Policy: policy, Next: next}
		if _, err := f.Purge(t.Context(), wrong); err == nil || wrong.Check() == nil {
			t.Errorf("the wrong place %s is accepted", next)
		}
	}
	f.purge(policy, false)
	if got, n := f.tags("app"), f.manifests("app"); got != "latest" || n != 1 {
		t.Errorf("left %q, %d manifests", got, n)
	}
}

func TestContentOfAMirrorRuleStays(t *testing.T) {
	f := newFixture(t)
	d := f.push("app", "1", "v1")
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		return tx.PutSyncItem(metadb.SyncItem{Source: "mirror/m", Repository: "app", Item: "v1", Tag: "v1",
			Digest: string(d), State: "synced", ChangedAt: f.now})
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := retention.Policy{Filters: []string{"app:."}, Ago: "0d", Untagged: true}
	if diff := cmp.Diff([]string{"v1 Mirrored"}, names(f.purge(policy, false).Kept)); diff != "" {
		t.Error(diff)
	}
}

func TestRulesRunByTheirScheduleOnce(t *testing.T) {
	f := newFixture(t)
	put := func(name string, r retention.Rule) {
		t.Helper()
		spec := fmt.Appendf(nil, `{"filters":%q,"untagged":true,"schedule":%q}`, r.Filters, r.Schedule)
		err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
			return tx.PutPurgeRule(metadb.PurgeRule{Name: name, Spec: spec, CreatedAt: f.now})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	row := func(name string) metadb.PurgeRule {
		t.Helper()
		read := func(tx *metadb.Tx) (metadb.PurgeRule, error) { return tx.PurgeRule(name) }
		r, err := metadb.Read(t.Context(), f.DB, read)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	put("nightly", retention.Rule{Policy: retention.Policy{Filters: []string{"app:."}}, Schedule: "0 3 * * *"})
	f.push("app", "1", "v1")
	f.push("app", "2", "v1")
	due := func() {
		t.Helper()
		if err := f.RunDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if due(); !row("nightly").StartedAt.IsZero() {
		t.Error("the rule ran before its time")
	}
	f.now = f.now.Add(24 * time.Hour)
	due()
	first := row("nightly")
	if f.manifests("app") != 1 || !strings.Contains(string(first.Result), `"manifests":1`) {
		t.Errorf("%s", first.Result)
	}
	if due(); !row("nightly").StartedAt.Equal(first.StartedAt) {
		t.Error("the rule ran twice")
	}
	f.now = f.now.Add(time.Minute)
	request := func(tx *metadb.Tx) error { return tx.RequestPurgeRun("nightly", f.now) }
	if err := f.DB.Update(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if due(); !row("nightly").StartedAt.After(first.StartedAt) {
		t.Error("the requested run did not begin")
	}
}

func TestMalformedPoliciesAreRefused(t *testing.T) {
	good := retention.Policy{Filters: []string{"app:.*"}, Ago: "30d"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*retention.Policy){
		"no filter":        func(p *retention.Policy) { p.Filters = nil },
		"no expression":    func(p *retention.Policy) { p.Filters = []string{"app"} },
		"no repository":    func(p *retention.Policy) { p.Filters = []string{":.*"} },
		"a bad expression": func(p *retention.Policy) { p.Filters = []string{"app:["} },
		"a bad repository": func(p *retention.Policy) { p.Filters = []string{"a[:.*"} },
		"a long filter":    func(p *retention.Policy) { p.Filters = []string{"app:" + strings.Repeat("a", 600)} },
		"many filters":     func(p *retention.Policy) { p.Filters = slices.Repeat(p.Filters, 101) },
		"nothing":          func(p *retention.Policy) { p.Ago = "" },
		"a negative count": func(p *retention.Policy) { p.Keep = -1 },
		"a negative age":   func(p *retention.Policy) { p.Ago = "-3d" },
		"no unit":          func(p *retention.Policy) { p.Ago = "30" },
		"a huge age":       func(p *retention.Policy) { p.Ago = "999999d" },
	} {
		p := good
		change(&p)
		if err := p.Check(); err == nil {
			t.Errorf("%s: %+v is accepted", name, p)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("factory/*:^dev-", "30d")
	f.Add("a.*:x|y", "1d12h")
	f.Fuzz(func(t *testing.T, filter, ago string) {
		_ = retention.Policy{Filters: []string{filter}, Ago: ago}.Check()
	})
}
