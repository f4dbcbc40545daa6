package cli

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ferry/internal/api"
)

// originalFlags are the flags of the original's commands. Flags of all commands, such as
// --registry, are left out.
var originalFlags = map[string]string{
	"connected-registry create": "repository sync-token mode parent client-tokens sync-schedule sync-window " +
		"sync-message-ttl log-level audit-logs-enabled notifications gc-enabled gc-schedule auth-type identity yes",
	"connected-registry update": "add-client-tokens remove-client-tokens sync-schedule sync-window " +
		"sync-message-ttl log-level audit-logs-enabled add-notifications remove-notifications gc-enabled gc-schedule " +
		"auth-type identity",
	"connected-registry delete":                    "cleanup yes",
	"connected-registry deactivate":                "yes",
	"connected-registry list":                      "parent no-children",
	"connected-registry show":                      "",
	"connected-registry list-client-tokens":        "",
	"connected-registry get-settings":              "parent-protocol generate-password yes",
	"connected-registry install info":              "parent-protocol",
	"connected-registry install renew-credentials": "parent-protocol",
	"connected-registry permissions show":          "",
	"connected-registry permissions update":        "add remove",
	"connected-registry repo":                      "add remove",
	"connected-registry resync":                    "",
	"scope-map create":                             "repository gateway description",
	"scope-map update": "add-repository remove-repository add-gateway remove-gateway " +
		"description",
	"scope-map show":   "",
	"scope-map list":   "",
	"scope-map delete": "yes",
	"token create": "scope-map repository gateway status no-passwords expiration-in-days " +
		"expiration",
	"token update":              "scope-map status",
	"token show":                "",
	"token list":                "",
	"token delete":              "yes",
	"token credential generate": "password1 password2 expiration-in-days days expiration",
	"token credential delete":   "password1 password2",
	"repository list":           "top",
	"repository show-tags":      "orderby top detail",
	"repository show-manifests": "orderby top detail",
	"repository show":           "repository image",
	"repository update": "repository image delete-enabled list-enabled read-enabled " +
		"write-enabled",
	"repository untag":       "image",
	"repository delete":      "repository image yes",
	"manifest list-metadata": "",
	"import":                 "source name registry username password image repository force no-wait",
}

// apiTypes are the types of the management API whose properties the parity table names.
var apiTypes = map[string]reflect.Type{
	"ConnectedRegistry": reflect.TypeFor[api.ConnectedRegistry](),
	"StatusDetail":      reflect.TypeFor[api.StatusDetail](),
	"Token":             reflect.TypeFor[api.Token](),
	"SyncToken":         reflect.TypeFor[api.Token](),
	"TokenPassword":     reflect.TypeFor[api.TokenPassword](),
	"ScopeMap":          reflect.TypeFor[api.ScopeMap](),
	"InstanceSettings":  reflect.TypeFor[api.InstanceSettings](),
}

// A parityRow is one row of a table in docs/parity.md.
type parityRow struct {
	original, ferry, how string
	checks               []string
}

func parityRows(t *testing.T) (all []parityRow) {
	t.Helper()
	text, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || cells[0] == " original " {
			continue
		}
		if len(cells) != 4 {
			t.Fatalf("the row has %d cells: %s", len(cells), line)
		}
		row := parityRow{
			original: strings.TrimSpace(cells[0]), ferry: strings.TrimSpace(cells[1]), how: strings.TrimSpace(cells[2]),
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			row.checks = append(row.checks, m[1])
		}
		all = append(all, row)
	}
	return all
}

// namesOnly reports whether a row says no more than that the program knows a command or a flag.
func (r parityRow) namesOnly() bool {
	return r.ferry == "same" && r.how == "" && strings.HasPrefix(r.original, "`")
}

// isShown reports whether a check is a test or a value, and not only a command line that is understood.
func isShown(check string) bool { return !strings.HasPrefix(check, "ferry ") }

// TestEveryNamedTestExists, in test/docs, checks the names of tests in the table.
func TestParityTableIsTrue(t *testing.T) {
	rows := parityRows(t)
	for _, row := range rows {
		switch {
		case !slices.Contains([]string{"same", "better", "not applicable"}, row.ferry):
			t.Errorf("%s: %q is not one of same, better, not applicable", row.original, row.ferry)
		case row.ferry != "same" && row.how == "":
			t.Errorf("%s: the row does not say how, or why", row.original)
		case row.ferry != "not applicable" && len(row.checks) == 0:
			t.Errorf("%s: the row has no check", row.original)
		case row.ferry != "not applicable" && !row.namesOnly() && !slices.ContainsFunc(row.checks, isShown):
			t.Errorf("%s: no test and no value shows it", row.original)
		}
		for _, c := range row.checks {
			checkParity(t, row.original, c)
		}
	}
	for command, flags := range originalFlags {
		wanted := []string{"`" + command + "`"}
		if flags != "" {
			wanted = nil
			for flag := range strings.FieldsSeq(flags) {
				wanted = append(wanted, "`"+command+" --"+flag+"`")
			}
		}
		for _, w := range wanted {
			if !slices.ContainsFunc(rows, func(r parityRow) bool { return r.original == w }) {
				t.Errorf("docs/parity.md has no row for %s", w)
			}
		}
	}
}

// checkParity fails the test unless a check of the parity table passes: a command line, or a
// property of the management API.
func checkParity(t *testing.T, row, text string) {
	t.Helper()
	words := shellWord.FindAllString(text, -1)
	switch {
	case strings.HasPrefix(text, "TestScript/"):
		script := strings.TrimPrefix(text, "TestScript/")
		if _, err := os.Stat("testdata/script/" + script + ".txtar"); err != nil {
			t.Errorf("%s: %v", row, err)
		}
	case strings.HasPrefix(text, "Test"):
	case words[0] == "ferry":
		for i, w := range words {
			words[i] = shellQuoted.ReplaceAllString(w, "$1$2")
		}
		check(t, row, words[1:])
	default:
		text, _, _ = strings.Cut(text, " = ") // the value has a test of its own
		names := strings.Split(strings.TrimSuffix(text, ".length"), ".")
		v, ok := apiTypes[names[0]]
		for _, name := range names[1:] {
			v, ok = property(v, name)
			if !ok {
				break
			}
		}
		if !ok {
			t.Errorf("%s: there is no property %s", row, text)
		}
	}
}

// property returns the type of the member of a struct that has the given name in JSON.
func property(v reflect.Type, name string) (reflect.Type, bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil, false
	}
	for _, f := range reflect.VisibleFields(v) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f.Type, true
		}
	}
	return nil, false
}
