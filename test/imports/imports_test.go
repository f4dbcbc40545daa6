// Package imports holds the program to its layout: which of its packages may
// import which, and which libraries may stand where, each with the reason.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "ferry"

// A layer is packages that may import the layers listed before theirs, and
// each other only where an exception says so.
type layer struct {
	packages []string // below the module
	reason   string
}

var layers = []layer{
	{
		[]string{"internal/terminal"},
		"whatever writes words that others chose, a log too, writes them so that a terminal does not act on them",
	},
	{
		[]string{"internal/jsonlimit"},
		"it knows no type of ours: whatever is decoded from a stranger's text is decoded with it",
	},
	{
		[]string{"internal/oci", "internal/schedule", "internal/subscription", "internal/telemetry", "internal/config",
			"internal/faultnet", "internal/wire", "internal/api", "internal/retry", "internal/atomicfile",
			"internal/outbound"},
		"they are vocabulary: pure, and of use to everything, so they know of nothing of ours",
	},
	{
		[]string{"internal/storage/blob", "internal/metadb", "internal/auth", "internal/remote", "internal/layout"},
		"each is one thing that content needs, and none needs another: bytes, rows, rights, other registries, image layouts",
	},
	{
		[]string{"internal/storage/blob/fs", "internal/storage/blob/s3", "internal/storage/blob/blobtest",
			"internal/metadb/dbtest"},
		"they are one way each to do what the package above them says",
	},
	{
		[]string{"internal/storage"},
		"it is the only writer of content, so the invariants are written once, for a push and for a sync",
	},
	{
		[]string{"internal/scrub"},
		"it reads what storage keeps, and says what is damaged; what heals it is the engine's affair, or a pusher's",
	},
	{
		[]string{"internal/storage/storagetest"},
		"it fills a storage, for the tests of every package that has one",
	},
	{
		[]string{"internal/download"},
		"it brings bytes into storage, and knows neither images nor the protocol that they come by",
	},
	{
		[]string{"internal/replication"},
		"it decides which content is here; sources translate into its types, so it knows no protocol either",
	},
	{
		[]string{"internal/registry", "internal/gateway"},
		"they give storage to the network, each in its own protocol, and neither needs the other",
	},
	{
		[]string{"internal/mirror"},
		"it follows any registry with the engine, whoever decides which",
	},
	{
		[]string{"internal/control"},
		"who may do what is asked by the registry and the gateway through interfaces of theirs, and they must not know who answers",
	},
	{
		[]string{"internal/fleet"},
		"connected registries come with scope maps and tokens, which do not know what they are for",
	},
	{
		[]string{"internal/management"},
		"the management API is one way to use the resources, which work without it",
	},
	{
		[]string{"internal/fleet/fleettest"},
		"it runs instances with their management API, for the tests of each of their parts",
	},
	{
		[]string{"internal/connected", "internal/web"},
		"a site's life and its pages use everything above",
	},
	{
		[]string{"internal/server"},
		"it composes an instance, so nothing in an instance may depend on how it was composed",
	},
	{
		[]string{"internal/demo"},
		"it uses running instances as a user would",
	},
	{
		[]string{"internal/cli"},
		"it is how a person starts it all",
	},
	{
		[]string{"cmd/ferry"},
		"it is the process and nothing else",
	},
}

// A ban is a rule beside the layers.
type ban struct {
	target string   // a package of ours, or a library and all below it
	only   []string // who may import it, tests aside; nil is nobody
	not    []string // who may not, when only is empty; path.Match patterns
	reason string
}

var bans = []ban{
	{target: "ferry/internal/remote", not: []string{"internal/registry"},
		reason: "a pull never waits for the parent, so what answers pulls has no means to call it"},
	{target: "ferry/internal/connected",
		not: []string{"internal/registry", "internal/storage", "internal/control", "internal/fleet",
			"internal/management"}, reason: "a registry serves the same way with a parent and without"},
	{target: "ferry/internal/control", not: []string{"internal/cli"},
		reason: "the command line uses the management API as any client does"},
	{target: "ferry/internal/fleet", not: []string{"internal/cli"},
		reason: "the command line uses the management API as any client does"},
	{target: "ferry/internal/management", not: []string{"internal/cli"},
		reason: "the command line uses the management API as any client does"},
	{target: "ferry/internal/wire", not: []string{"internal/download", "internal/replication", "internal/mirror"},
		reason: "the engine owns the types that its sources answer in, whatever protocol they speak"},
	{target: "ferry/internal/storage/blob/fs", only: []string{"internal/storage", "internal/server"},
		reason: "who writes blobs past storage writes past the invariants"},
	{target: "ferry/internal/metadb/dbtest", reason: "it starts database servers, for tests"},
	{target: "ferry/internal/storage/blob/blobtest", reason: "it is a contract to test stores against"},
	{target: "ferry/internal/storage/storagetest", reason: "it makes content, for tests"},
	{target: "ferry/internal/fleet/fleettest", reason: "it runs instances, for tests"},
	{target: "ferry/internal/faultnet", reason: "it breaks networks, for tests"},
	{target: "testing", reason: "the program is not a test; its flags would come along"},
	{target: "net/http/pprof", reason: "it adds handlers to a global mux that nobody authenticates"},
	{target: "net/http/httptest", reason: "it is for tests"},
	{target: "math/rand", reason: "seeded randomness ends up in a secret sooner or later; math/rand/v2 serves jitter"},
	{target: "math/rand/v2", not: []string{"internal/auth", "internal/control", "internal/fleet"},
		reason: "passwords and keys come from crypto/rand"},
	{target: "log", only: []string{"internal/server"},
		reason: "logs go to the slog.Logger that was handed in; net/http alone wants a log.Logger"},
	{target: "database/sql",
		not: []string{"internal/registry", "internal/gateway", "internal/replication", "internal/storage/*",
			"internal/remote", "internal/cli"}, reason: "SQL that moves content is in metadb, on both databases"},
	{target: "modernc.org/sqlite", only: []string{"internal/metadb"},
		reason: "which database it is, is metadb's affair"},
	{target: "github.com/jackc/pgx", only: []string{"internal/metadb"},
		reason: "which database it is, is metadb's affair"},
	{target: "github.com/pressly/goose", only: []string{"internal/metadb"}, reason: "the schema has one owner"},
	{target: "github.com/spf13/cobra", only: []string{"internal/cli"},
		reason: "a library must not dictate how anything but commands is written"},
	{target: "github.com/vbauerster/mpb", only: []string{"internal/cli"},
		reason: "what draws on a terminal stands next to the terminal"},
	{target: "github.com/danielgtaylor/huma", only: []string{"internal/management"},
		reason: "the registry's and the gateway's handlers are our own"},
	{target: "github.com/golang-jwt/jwt", only: []string{"internal/auth"},
		reason: "a token that was parsed elsewhere was checked elsewhere"},
	{target: "github.com/minio", only: []string{"internal/storage/blob/s3"},
		reason: "where blobs are is the blob store's affair"},
	{target: "oras.land/oras-go", only: []string{"internal/remote"},
		reason: "it logs in to other registries; all else of ours is our own"},
	{target: "github.com/adhocore/gronx", only: []string{"internal/schedule"},
		reason: "what a cron expression means is said in one place"},
	{target: "github.com/prometheus/client_golang", only: []string{"internal/telemetry"},
		reason: "metrics have one registry and one list of names"},
}

// testsOnly are packages that tests alone import; the bans are not for them.
var testsOnly = []string{
	"internal/metadb/dbtest", "internal/storage/blob/blobtest", "internal/storage/storagetest",
	"internal/fleet/fleettest", "internal/faultnet",
}

// A pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string // of the program; those of its tests are elsewhere
	Deps       []string // Imports, and theirs, and so on
}

func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointOneWay(t *testing.T) {
	level := map[string]int{}
	for i, l := range layers {
		for _, p := range l.packages {
			level[p] = i
		}
	}
	for _, p := range list(t, "./internal/...", "./cmd/...") {
		own, ok := level[p.name()]
		if !ok {
			t.Errorf("%s stands in no layer: give it one, and the reason", p.name())
			continue
		}
		for _, imp := range p.Imports {
			name, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			if other, ok := level[name]; ok && other >= own {
				t.Errorf("%s imports %s, and may import only what stands before it: %s", p.name(), name,
					layers[own].reason)
			}
		}
	}
}

func TestEveryImportIsWhereItMayBe(t *testing.T) {
	for _, p := range list(t, "./internal/...", "./cmd/...") {
		if slices.Contains(testsOnly, p.name()) {
			continue
		}
		for _, b := range bans {
			for _, imp := range p.Imports {
				if b.covers(imp) && !b.allows(p.name()) {
					t.Errorf("%s imports %s: %s", p.name(), imp, b.reason)
				}
			}
		}
	}
}

// covers reports whether imp is what b is about.
func (b ban) covers(imp string) bool {
	library := strings.Contains(b.target, ".") // one with packages below its path
	return imp == b.target || library && strings.HasPrefix(imp, b.target+"/")
}

// allows reports whether b lets the package name import its target.
func (b ban) allows(name string) bool {
	if b.not == nil {
		return slices.Contains(b.only, name)
	}
	return !slices.ContainsFunc(b.not, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

func TestTheProgramHasWhatItNeedsAndNothingOfTests(t *testing.T) {
	deps := list(t, "./cmd/ferry")[0].Deps
	if !slices.Contains(deps, "crypto/sha512") {
		t.Error("the program lacks crypto/sha512: a digest's algorithm that is not linked in is not available")
	}
	for _, p := range testsOnly {
		if slices.Contains(deps, module+"/"+p) {
			t.Errorf("the program contains %s, which is for tests only", p)
		}
	}
}
