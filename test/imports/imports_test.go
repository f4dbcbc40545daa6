// Package imports tests which packages of the program may import which others,
// and which libraries may be imported where. Each rule has its reason.
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

// A layer is a set of packages. They may import packages of the layers before
// their own, and none of their own layer.
type layer struct {
	packages []string // below the module
	reason   string
}

var layers = []layer{
	{
		[]string{"internal/terminal"},
		"output and logs contain text of other machines, and a terminal must not act on it",
	},
	{
		[]string{"internal/jsonlimit", "internal/memlimit"},
		"they bound the memory that a stranger's request takes, so they may depend on no other package of ours",
	},
	{
		[]string{"internal/noderuntime"},
		"it changes files of a node that may run no Ferry, so it depends on no other package of ours",
	},
	{
		[]string{"internal/oci", "internal/schedule", "internal/subscription", "internal/telemetry", "internal/config",
			"internal/faultnet", "internal/wire", "internal/api", "internal/retry", "internal/atomicfile",
			"internal/outbound", "internal/kube"},
		"they are vocabulary that everything uses, so they depend on no other package of ours",
	},
	{
		[]string{"internal/tlsca", "internal/seal"},
		"each keeps keys in files, and needs to know nothing else of an instance",
	},
	{
		[]string{"internal/storage/blob", "internal/metadb", "internal/auth", "internal/remote", "internal/layout"},
		"each is one basis of content (bytes, rows, rights, other registries, image layouts), and none needs another",
	},
	{
		[]string{"internal/credential"},
		"it keeps the passwords for the parent, and knows nothing of syncs",
	},
	{
		[]string{"internal/oidc"},
		"it knows people and their rights, and nothing else of an instance",
	},
	{
		[]string{"internal/install"},
		"it writes files for a machine, and needs no running instance",
	},
	{
		[]string{"internal/storage/blob/fs", "internal/storage/blob/s3", "internal/storage/blob/blobtest",
			"internal/metadb/dbtest"},
		"each implements, or tests, the package above it",
	},
	{
		[]string{"internal/storage/blob/s3/s3test"},
		"it starts an object store, for tests",
	},
	{
		[]string{"internal/storage"},
		"it is the only writer of content, so that the invariants are written once, for pushes and for syncs",
	},
	{
		[]string{"internal/scrub"},
		"it finds damage in stored content; the engine or a push heals it",
	},
	{
		[]string{"internal/storage/storagetest"},
		"it fills a storage with content, for the tests of the packages below",
	},
	{
		[]string{"internal/download"},
		"it writes bytes to storage, and knows neither images nor the protocol of the source",
	},
	{
		[]string{"internal/replication"},
		"it decides which content belongs here; sources translate into its types, so it knows no protocol",
	},
	{
		[]string{"internal/events"},
		"it records what storage and the engine do; the APIs show it, and the fleet says who sends what",
	},
	{
		[]string{"internal/outbox"},
		"it sends stored content and changes to a parent, through an interface of its own, so it knows no protocol",
	},
	{
		[]string{"internal/registry", "internal/gateway"},
		"each serves storage in its own protocol, and neither needs the other",
	},
	{
		[]string{"internal/mirror"},
		"it follows other registries with the engine; control decides which ones",
	},
	{
		[]string{"internal/retention"},
		"it removes content through storage; control keeps its rules, and the fleet says who still needs what",
	},
	{
		[]string{"internal/control"},
		"the registry and the gateway ask for rights through interfaces of their own, and must not know who answers",
	},
	{
		[]string{"internal/fleet"},
		"a connected registry has scope maps and tokens, and these do not depend on their use",
	},
	{
		[]string{"internal/management"},
		"the resources work without the management API",
	},
	{
		[]string{"internal/fleet/fleettest"},
		"it runs instances with their management API, for tests",
	},
	{
		[]string{"internal/connected", "internal/web"},
		"the life of a connected registry, and its web pages, use everything above",
	},
	{
		[]string{"internal/server"},
		"it puts an instance together, and no part of the instance may depend on that",
	},
	{
		[]string{"internal/doctor"},
		"it looks at registries from outside, with the vocabulary only",
	},
	{
		[]string{"internal/demo"},
		"it uses running instances as a user would",
	},
	{
		[]string{"internal/cli"},
		"a person starts everything from here",
	},
	{
		[]string{"cmd/ferry"},
		"it is the process and nothing else",
	},
}

// A ban is a rule in addition to the layers.
type ban struct {
	target string   // a package of ours, or a library and all below it
	only   []string // packages that may import it, except tests; nil is none
	not    []string // if only is empty, packages that may not; path.Match patterns
	reason string
}

// methods is why templates are not in the program.
const methods = "it calls methods by their names, so the linker keeps all methods of all types: 5 MB more"

var bans = []ban{
	{target: "ferry/internal/remote", not: []string{"internal/registry"},
		reason: "a pull never waits for the parent, so the code that answers pulls must not be able to call it"},
	{target: "ferry/internal/connected",
		not: []string{"internal/registry", "internal/storage", "internal/control", "internal/fleet",
			"internal/management"}, reason: "a registry serves in the same way with and without a parent"},
	{target: "ferry/internal/control", not: []string{"internal/cli"},
		reason: "the command line uses the management API, like any other client"},
	{target: "ferry/internal/fleet", not: []string{"internal/cli"},
		reason: "the command line uses the management API, like any other client"},
	{target: "ferry/internal/management", not: []string{"internal/cli"},
		reason: "the command line uses the management API, like any other client"},
	{target: "ferry/internal/wire", not: []string{"internal/download", "internal/replication", "internal/mirror"},
		reason: "the engine owns the types in which its sources answer, whatever their protocol is"},
	{target: "ferry/internal/storage/blob/fs", only: []string{"internal/storage", "internal/server"},
		reason: "a write of blobs that bypasses storage bypasses the invariants"},
	{target: "ferry/internal/metadb/dbtest", reason: "it starts database servers, for tests"},
	{target: "ferry/internal/storage/blob/blobtest", reason: "it is a contract test for blob stores"},
	{target: "ferry/internal/storage/blob/s3", only: []string{"internal/storage", "internal/server"},
		reason: "a write of blobs that bypasses storage bypasses the invariants"},
	{target: "ferry/internal/storage/blob/s3/s3test", reason: "it starts an object store, for tests"},
	{target: "ferry/internal/storage/storagetest", reason: "it makes content, for tests"},
	{target: "ferry/internal/fleet/fleettest", reason: "it runs instances, for tests"},
	{target: "ferry/internal/faultnet", reason: "it breaks networks, for tests"},
	{target: "text/template", reason: methods},
	{target: "html/template", reason: methods},
	{target: "testing", reason: "the program is not a test, and would get the flags of tests"},
	{target: "net/http/pprof", reason: "it adds handlers without authentication to a global mux"},
	{target: "net/http/httptest", reason: "it is for tests"},
	{target: "math/rand",
		reason: "sooner or later its predictable numbers end up in a secret; for jitter there is math/rand/v2"},
	{target: "math/rand/v2",
		not:    []string{"internal/auth", "internal/control", "internal/credential", "internal/fleet"},
		reason: "passwords and keys come from crypto/rand"},
	{target: "log", only: []string{"internal/server"},
		reason: "log lines are written to the slog.Logger that a caller passed in; only net/http needs a log.Logger"},
	{target: "database/sql",
		not: []string{"internal/registry", "internal/gateway", "internal/replication", "internal/storage/*",
			"internal/remote", "internal/cli"}, reason: "SQL for content is in metadb, for both databases"},
	{target: "modernc.org/sqlite", only: []string{"internal/metadb"},
		reason: "only metadb knows which database is in use"},
	{target: "github.com/jackc/pgx", only: []string{"internal/metadb"},
		reason: "only metadb knows which database is in use"},
	{target: "github.com/spf13/cobra", only: []string{"internal/cli"},
		reason: "only commands depend on the library for commands"},
	{target: "github.com/vbauerster/mpb", only: []string{"internal/cli"},
		reason: "only the command line draws on a terminal"},
	{target: "github.com/danielgtaylor/huma", only: []string{"internal/management"},
		reason: "the registry's and the gateway's handlers are our own"},
	{target: "github.com/golang-jwt/jwt", only: []string{"internal/auth"},
		reason: "tokens are parsed and verified in one place"},
	{target: "github.com/coreos/go-oidc", only: []string{"internal/oidc", "internal/cli"},
		reason: "ID tokens are verified in one place"},
	{target: "github.com/minio", only: []string{"internal/storage/blob/s3"},
		reason: "only the blob store knows where blobs are"},
	{target: "oras.land/oras-go", only: []string{"internal/remote"},
		reason: "we use it only to log in to other registries"},
	{target: "github.com/adhocore/gronx", only: []string{"internal/schedule"},
		reason: "the meaning of a cron expression is defined in one place"},
	{target: "github.com/pelletier/go-toml", only: []string{"internal/noderuntime"},
		reason: "only container runtimes have files in this format"},
	{target: "github.com/prometheus/client_golang", only: []string{"internal/telemetry"},
		reason: "metrics have one registry and one list of names"},
}

// testsOnly are packages for tests. The bans do not apply to them.
var testsOnly = []string{
	"internal/metadb/dbtest", "internal/storage/blob/blobtest", "internal/storage/storagetest",
	"internal/storage/blob/s3/s3test",
	"internal/fleet/fleettest", "internal/faultnet",
}

// A pkg is the output of `go list` for a package.
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
			t.Errorf("%s is in no layer: add it to one, with a reason", p.name())
			continue
		}
		for _, imp := range p.Imports {
			name, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			if other, ok := level[name]; ok && other >= own {
				t.Errorf("%s imports %s, but may import only packages of the layers before its own: %s", p.name(), name,
					layers[own].reason)
			}
		}
	}
}

func TestNoPackageHasABannedImport(t *testing.T) {
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

// covers reports whether b is a rule about the import imp.
func (b ban) covers(imp string) bool {
	library := strings.Contains(b.target, ".") // its packages are below its path
	return imp == b.target || library && strings.HasPrefix(imp, b.target+"/")
}

// allows reports whether the package called name may import the target of b.
func (b ban) allows(name string) bool {
	if b.not == nil {
		return slices.Contains(b.only, name)
	}
	return !slices.ContainsFunc(b.not, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

func TestProgramLinksSHA512AndNoTestPackage(t *testing.T) {
	deps := list(t, "./cmd/ferry")[0].Deps
	if !slices.Contains(deps, "crypto/sha512") {
		t.Error("the program does not link crypto/sha512, so digests with sha512 do not work")
	}
	for _, p := range testsOnly {
		if slices.Contains(deps, module+"/"+p) {
			t.Errorf("the program contains %s, which is for tests only", p)
		}
	}
}
