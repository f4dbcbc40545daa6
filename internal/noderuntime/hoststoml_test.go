package noderuntime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const edge = "https://edge.example:5000"

func TestEndpointComesBeforeTheHostsOfOthers(t *testing.T) {
	h := hostsEntry{url: edge, ca: "ferry-1.crt", authorization: "Basic x", mirror: true, upstream: true}
	const table = `[host."https://edge.example:5000"]
  capabilities = ["pull", "resolve"]
  ca = "ferry-1.crt"
  dial_timeout = "2s"
  [host."https://edge.example:5000".header]
    authorization = ["Basic x"]
`
	const other = "# ours\nserver = 'https://registry-1.docker.io' # kept\nodd = 1\n\n"
	const mirror = "[host.'https://mirror.example']  # a comment\n  client = [\n['a', 'b']\n]\n"
	const spegel = "[host.'https://127.0.0.1:6443/v2']\n  capabilities = ['pull']\n\n"
	for name, test := range map[string]struct{ old, want string }{
		"no tables":        {other, other + table},
		"another mirror":   {other + mirror, other + table + "\n" + mirror},
		"K3s' own":         {other + spegel + mirror, other + spegel + table + "\n" + mirror},
		"the endpoint":     {other + "[host.'" + edge + "']\nca = 'x'\n" + mirror, other + table + "\n" + mirror},
		"without an end":   {"server = 'https://a'", "server = 'https://a'\n" + table},
		"an empty old one": {"", table},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := h.hosts([]byte(test.old))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := h.hosts([]byte("server = ")); err == nil {
		t.Error("a file that is not TOML was changed")
	}
}

func TestReverseKeepsLaterEdits(t *testing.T) {
	for name, test := range map[string]struct {
		before, ours, now, want string
		conflict                bool
	}{
		"no edit":                {before: "a\nb\n", ours: "a\nX\nb\n", now: "a\nX\nb\n", want: "a\nb\n"},
		"an edit before":         {before: "a\nb\n", ours: "a\nX\nb\n", now: "n\na\nX\nb\n", want: "n\na\nb\n"},
		"an edit after":          {before: "a\nb\n", ours: "a\nX\nb\n", now: "a\nX\nb\nn\n", want: "a\nb\nn\n"},
		"an edit inside":         {before: "a\nb\n", ours: "a\nX\nY\nb\n", now: "a\nX\nn\nY\nb\n", want: "a\nn\nb\n"},
		"a removed line":         {before: "a\nb\nc\n", ours: "a\nX\nb\nc\n", now: "a\nX\nb\n", want: "a\nb\n"},
		"a new file":             {ours: "X\nY\n", now: "X\nY\nn\n", want: "n\n"},
		"a replaced line":        {before: "a\nb\nc\n", ours: "a\nX\nc\n", now: "a\nX\nc\nn\n", want: "a\nb\nc\nn\n"},
		"a replaced first line":  {before: "b\nc\n", ours: "X\nc\n", now: "n\nX\nc\n", want: "n\nb\nc\n"},
		"an edit of a replaced":  {before: "a\nb\nc\n", ours: "a\nX\nc\n", now: "a\nZ\nc\n", conflict: true},
		"a line that we removed": {before: "a\nb\nc\n", ours: "a\nc\n", now: "a\nc\nn\n", want: "a\nb\nc\nn\n"},
		"ours removed already":   {before: "a\nb\n", ours: "a\nX\nb\n", now: "a\nb\nn\n", want: "a\nb\nn\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := reverse([]byte(test.ours), []byte(test.before), []byte(test.now))
			if ok == test.conflict {
				t.Fatalf("reverse says %t", ok)
			}
			if ok && string(got) != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
