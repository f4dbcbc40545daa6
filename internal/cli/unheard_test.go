package cli

import "testing"

func TestWritesListTheSitesThatAreBehind(t *testing.T) {
	const result = `{"name":"line1","unheard":{"count":5,"registries":[{"name":"ship4","expectedTime":null},` +
		`{"name":"ship1","expectedTime":"2030-01-02T02:00:00Z"},` +
		`{"name":"ship2","expectedTime":"2030-01-02T02:00:00Z"},{"name":"ship3"}]}}`
	const note = "note: 5 connected registries have not received this change yet: ship4 (next connection unknown), " +
		"ship1 (expected at 2030-01-02T02:00:00Z), ship2 (expected at 2030-01-02T02:00:00Z) and 2 others\n"
	for _, args := range [][]string{
		{"token", "update", "-n", "line1", "--status", "disabled"},
		{"token", "delete", "-n", "line1", "--yes"},
		{"token", "credential", "delete", "-n", "line1", "--password1"},
	} {
		if _, stderr := runAt(t, result, args...); stderr != note {
			t.Errorf("%v: %q", args, stderr)
		}
	}
	if _, stderr := runAt(t, `{"name":"line1"}`, "token", "update", "-n", "line1", "--status",
		"disabled"); stderr != "" {
		t.Errorf("all have heard of it: %q", stderr)
	}
	if _, stderr := runAt(t, result, "token", "show", "-n", "line1"); stderr != "" {
		t.Errorf("nothing was written: %q", stderr)
	}
}
