package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ferry/internal/cli"
)

// Checks such as `ConnectedRegistry.mode = ReadOnly` in docs/parity.md are of resources that are created
// with the fewest flags.
func TestDefaultsAreThoseOfTheReference(t *testing.T) {
	root := startInstance(t, filepath.Join(t.TempDir(), "root"))
	run := func(args ...string) (v map[string]any) {
		t.Helper()
		var out, notes bytes.Buffer
		env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &notes, LookupEnv: cli.Variables(
			map[string]string{"FERRY_REGISTRY": root.url, "FERRY_USERNAME": "admin", "FERRY_PASSWORD": root.password,
				"FERRY_CONFIG_DIR": t.TempDir()})}
		if code := cli.Run(context.Background(), args, env); code != 0 {
			t.Fatalf("ferry %s: %s", strings.Join(args, " "), notes.String())
		}
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	created := map[string]map[string]any{
		"ConnectedRegistry": run("connected-registry", "create", "-n", "ship1", "--repository", "a"),
		"SyncToken":         run("token", "show", "-n", "ship1"),
		"Token":             run("token", "create", "-n", "line1", "--repository", "a", "content/read"),
	}
	page, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	values := regexp.MustCompile("`([A-Za-z]+)\\.([A-Za-z0-9.]+) = ([^`]*)`")
	for _, m := range values.FindAllStringSubmatch(string(page), -1) {
		count++
		var v any = created[m[1]]
		for name := range strings.SplitSeq(m[2], ".") {
			if list, ok := v.([]any); ok && name == "length" {
				v = len(list)
				continue
			}
			if list, ok := v.([]any); ok && len(list) > 0 {
				v = list[0]
			}
			members, _ := v.(map[string]any)
			if v, _ = members[name]; members == nil {
				v = "no such member"
			}
		}
		if got := fmt.Sprint(v); got != m[3] {
			t.Errorf("%s.%s is %s, and docs/parity.md says %s", m[1], m[2], got, m[3])
		}
	}
	if count < 12 {
		t.Errorf("only %d values are compared", count)
	}
}
