package noderuntime

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// hostsComment is the first line of a file that Ferry made. K3s deletes files with a first
// line of its own at each start, and leaves others.
const hostsComment = "# Written by ferry client configure; ferry client restore removes it.\n"

// dialTimeout bounds how long a pull waits for an endpoint that is down before it goes on to
// the next one; containerd's default is 30 seconds. Versions before 2.1 ignore it.
const dialTimeout = "2s"

// hostsFiles plans hosts.toml and the authority for every name, in a directory of containerd.
func (p *plan) hostsFiles(root string, s *Settings) error {
	for i, name := range s.registries() {
		dir := p.node.directoryOf(root, name)
		h := hostsEntry{url: s.Endpoint, ca: s.caName(), authorization: s.authorization(),
			mirror: i >= len(s.own()), upstream: i < len(s.own()) || !s.NoUpstream}
		if h.ca != "" {
			if err := p.create(filepath.Join(dir, h.ca), s.CA, fileOptions{authority: true, whole: true}); err != nil {
				return err
			}
		}
		if standard := filepath.Join(root, "_default/hosts.toml"); h.mirror && h.upstream && name != AllRegistries &&
			p.node.exists(standard) && p.state.find(standard) == nil && !p.node.exists(dir) {
			p.note("the hosts of %s are no longer asked for %s", standard, name)
		}
		o := fileOptions{secret: h.authorization != "", whole: true, hosts: []string{s.Endpoint}}
		if err := p.edit(filepath.Join(dir, "hosts.toml"), o, h.hosts); err != nil {
			return err
		}
	}
	return nil
}

// hostDirectory returns the name of a registry's directory, as containerd and K3s write it.
func hostDirectory(registry string) string {
	if registry == AllRegistries {
		return "_default"
	}
	if i := strings.LastIndex(registry, ":"); i > 0 && !strings.HasSuffix(registry, "]") {
		return registry[:i] + "_" + registry[i+1:] + "_"
	}
	return registry
}

// directoryOf returns the directory in root that containerd reads for a registry: one that
// exists, in containerd's order, or the first.
func (n *Node) directoryOf(root, registry string) string {
	first := filepath.Join(root, hostDirectory(registry))
	if second := filepath.Join(root, registry); registry != AllRegistries && !n.exists(first) && n.exists(second) {
		return second
	}
	return first
}

// A hostsEntry is how containerd reaches the registry, for one name.
type hostsEntry struct {
	url           string
	ca            string // the name of a file in the same directory; "" trusts the system's
	authorization string // a header's value; "" sends none
	mirror        bool   // the name is another registry's
	upstream      bool   // after the endpoint, ask others: the mirrored registry, or those of an existing file
}

// fields renders the settings of the endpoint, without its header.
func (h hostsEntry) fields(indent string) string {
	var b strings.Builder
	if h.mirror {
		fmt.Fprintf(&b, "%scapabilities = [\"pull\", \"resolve\"]\n", indent)
	}
	if h.ca != "" {
		fmt.Fprintf(&b, "%sca = %s\n", indent, strconv.Quote(h.ca))
	}
	fmt.Fprintf(&b, "%sdial_timeout = %q\n", indent, dialTimeout)
	return b.String()
}

// table renders the endpoint as a table that comes before the upstream.
func (h hostsEntry) table() string {
	text := fmt.Sprintf("[host.%q]\n%s", h.url, h.fields("  "))
	if h.authorization != "" {
		text += fmt.Sprintf("  [host.%q.header]\n    authorization = [%q]\n", h.url, h.authorization)
	}
	return text
}

// hosts returns the hosts.toml with the endpoint before all others. old is the file as it is
// without the endpoint; nil if there is none.
func (h hostsEntry) hosts(old []byte) ([]byte, error) {
	if !h.upstream || !h.mirror && old == nil {
		// The endpoint is the server itself, and the last one to be asked.
		text := fmt.Sprintf("%sserver = %q\n%s", hostsComment, h.url, h.fields(""))
		if h.authorization != "" {
			text += fmt.Sprintf("\n[header]\n  authorization = [%q]\n", h.authorization)
		}
		return []byte(text + "\n[host] # containerd 1.6 ignores files without it\n"), nil
	}
	if old == nil {
		return []byte(hostsComment + "\n" + h.table()), nil
	}
	without, ok := removeHost(old, h.url)
	if !ok {
		return nil, errors.New("it is not valid TOML")
	}
	at := len(without)
	tables, err := tablesOf(without)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		// K3s' own registry stays first: it is on this node.
		if len(t.key) > 1 && t.key[0] == "host" && !isLoopback(t.key[1]) {
			at = t.begin
			break
		}
	}
	var out bytes.Buffer
	out.Write(without[:at])
	if n := out.Len(); n > 0 && without[n-1] != '\n' {
		out.WriteByte('\n')
	}
	out.WriteString(h.table())
	if at < len(without) {
		out.WriteByte('\n')
	}
	out.Write(without[at:])
	var file struct {
		Host map[string]any `toml:"host"`
	}
	if err := toml.Unmarshal(out.Bytes(), &file); err != nil || file.Host[h.url] == nil {
		return nil, errors.New("its hosts are written in a way that Ferry does not change")
	}
	return out.Bytes(), nil
}

func isLoopback(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost" || u.Hostname() == "::1")
}

// removeHost removes the tables of one endpoint. It fails if text is not TOML.
func removeHost(text []byte, endpoint string) ([]byte, bool) {
	tables, err := tablesOf(text)
	if err != nil {
		return nil, false
	}
	var out []byte
	from := 0
	for i, t := range tables {
		if len(t.key) < 2 || t.key[0] != "host" || strings.TrimSuffix(t.key[1], "/v2") != endpoint {
			continue
		}
		end := len(text)
		if i+1 < len(tables) {
			end = tables[i+1].begin
		}
		out = append(out, text[from:t.begin]...)
		from = end
	}
	return append(out, text[from:]...), true
}

// A table is a header of a TOML file, such as [host."https://mirror.example"].
type table struct {
	key   []string
	begin int // of its line
}

// tablesOf returns the headers of a TOML file, in their order.
func tablesOf(text []byte) ([]table, error) {
	var any map[string]any
	if err := toml.Unmarshal(text, &any); err != nil {
		return nil, err
	}
	var all []table
	p := unstable.Parser{}
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
			continue
		}
		t := table{begin: -1}
		for it := e.Key(); it.Next(); {
			if t.begin < 0 {
				t.begin = int(it.Node().Raw.Offset)
			}
			t.key = append(t.key, string(it.Node().Data))
		}
		t.begin = bytes.LastIndexByte(text[:t.begin], '\n') + 1
		all = append(all, t)
	}
	return all, p.Error()
}
