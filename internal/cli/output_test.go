package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jmespath-community/go-jmespath"
	"go.yaml.in/yaml/v4"

	"ferry/internal/terminal"
)

// A thing is a resource that has columns.
type thing struct {
	Name, Mode string
	Parent     struct{ ID *string }
}

func thingColumns() []column[thing] {
	return []column[thing]{
		{title: "NAME", text: func(t thing) string { return t.Name }},
		{title: "PARENT", text: func(t thing) string { return lastSegment(value(t.Parent.ID)) }},
		{title: "MODE", text: func(t thing) string { return t.Mode }},
	}
}

// printed returns the output for a value. A thing is shown with its columns.
func printed(t *testing.T, format, expression string, v any) (string, error) {
	t.Helper()
	var out bytes.Buffer
	env := &Env{Stdout: &out, output: format, LookupEnv: Variables(nil)}
	if expression != "" {
		if err := env.query.parse(expression); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var things []thing
	if strings.Contains(string(raw), `"parent"`) && json.Unmarshal(raw, &things) == nil {
		err = showAll(env, result[[]thing]{raw, things}, thingColumns())
	} else {
		err = env.print(v)
	}
	return out.String(), err
}

func TestOutputFormatsMatchTheReference(t *testing.T) {
	things := []any{
		map[string]any{"name": "ship1", "mode": "ReadOnly", "parent": map[string]any{"id": nil}, "size": 12345678901,
			"tags": []any{"a", "b"}},
		map[string]any{"name": "a-longer-name", "mode": "ReadWrite", "parent": map[string]any{"id": "/x/ship1"},
			"size": nil, "tags": nil},
	}
	for _, test := range []struct {
		name, format, query string
		value               any
		want                string
	}{
		{"json has sorted members and keeps <", "json", "", map[string]any{"b": "<x>", "a": 1},
			"{\n  \"a\": 1,\n  \"b\": \"<x>\"\n}\n"},
		{"json of nothing", "json", "", []any{}, "[]\n"},
		{"yaml", "yaml", "", map[string]any{"b": []string{"x"}, "a": nil}, "a: null\nb:\n- x\n"},
		{"table", "table", "", things, "" +
			"NAME           PARENT    MODE\n" +
			"-------------  --------  ---------\n" +
			"ship1                    ReadOnly\n" +
			"a-longer-name  ship1     ReadWrite\n"},
		{"table of a query", "table", "[].{who:name, size:size}", things, "" +
			"Who            Size\n" +
			"-------------  -----------\n" +
			"ship1          12345678901\n" +
			"a-longer-name\n"},
		{"table of lists", "table", "[].[name, mode]", things, "" +
			"Column1        Column2\n" +
			"-------------  ---------\n" +
			"ship1          ReadOnly\n" +
			"a-longer-name  ReadWrite\n"},
		{"table of a resource without its id", "table", "",
			map[string]any{"id": "/x/1", "type": "x", "etag": "7", "name": "a", "on": true, "list": []any{1}},
			"Name    On\n------  ----\na       true\n"},
		{"table of words", "table", "", []string{"one", "two"}, "Result\n--------\none\ntwo\n"},
		{"table of nothing", "table", "", []any{}, ""},
		{"tsv of a word", "tsv", "[0].name", things, "ship1\n"},
		{"tsv of rows", "tsv", "", things,
			"ReadOnly\tship1\t\t12345678901\t2\nReadWrite\ta-longer-name\t\tNone\tNone\n"},
		{"tsv in the order of the query", "tsv", "[].{who:name, mode:mode}", things,
			"ship1\tReadOnly\na-longer-name\tReadWrite\n"},
		{"tsv of booleans", "tsv", "", []any{true, []any{true, false}, map[string]any{"a": true}},
			"true\nTrue\tFalse\nTrue\n"},
		{"tsv of lists", "tsv", "[].[name, mode]", things, "ship1\tReadOnly\na-longer-name\tReadWrite\n"},
		{"tsv of nothing", "tsv", "[]", []any{}, ""},
		{"tsv of null", "tsv", "[9]", things, ""},
		{"json of null", "json", "[9]", things, ""},
		{"none", "none", "", things, ""},
		{"jsonc without a terminal", "jsonc", "[0].name", things, "\"ship1\"\n"},
		{"yamlc without a terminal", "yamlc", "[0].{a:name}", things, "a: ship1\n"},
		{"query with a bare literal", "tsv", "[?name==`ship1`].name", things, "ship1\n"},
		{"query with a number", "tsv", "[?size>`5`].name", things, "ship1\n"},
		{"query with a filter", "json", "[?mode=='ReadOnly'].name | [0]", things, "\"ship1\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := printed(t, test.format, test.query, test.value)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestYAMLKeepsWholeNumbers(t *testing.T) {
	status := map[string]any{"bytesTotal": 30002660.0, "all": []any{12345678901234.0, -30000000.0, 0.5}}
	for _, test := range []struct{ format, query, want string }{
		{"json", "",
			"{\n  \"all\": [\n    12345678901234,\n    -30000000,\n    0.5\n  ],\n  \"bytesTotal\": 30002660\n}\n"},
		{"yaml", "", "all:\n- 12345678901234\n- -30000000\n- 0.5\nbytesTotal: 30002660\n"},
		{"table", "", "BytesTotal\n------------\n30002660\n"},
		{"tsv", "", "3\t30002660\n"},
		{"json", "bytesTotal", "30002660\n"},
		{"yaml", "bytesTotal", "30002660\n"},
		{"yaml", "{sum: sum(all[:2]), count: length(all)}", "count: 3\nsum: 12345648901234\n"},
		{"table", "{bytes: bytesTotal}", "Bytes\n--------\n30002660\n"},
		{"tsv", "all", "12345678901234\n-30000000\n0.5\n"},
	} {
		got, err := printed(t, test.format, test.query, status)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("-o %s --query %q: %s", test.format, test.query, diff)
		}
	}
}

func TestTablesFitTheTerminal(t *testing.T) {
	rows := []any{
		map[string]any{"name": "船舶一号登录服务器", "state": "Online", "url": "https://registry.ship1.example"},
		map[string]any{"name": "cafe\u0301", "state": "Offline", "url": ""},
	}
	for _, test := range []struct {
		columns int
		want    string
	}{
		{0, "Name                State    Url\n" +
			"------------------  -------  ------------------------------\n" +
			"船舶一号登录服务器  Online   https://registry.ship1.example\n" +
			"cafe\u0301                Offline\n"},
		{58, "Name                State\n" +
			"------------------  -------\n" +
			"船舶一号登录服务器  Online\n" +
			"cafe\u0301                Offline\n"},
		{18, "Name\n" +
			"------------------\n" +
			"船舶一号登录服务器\n" +
			"cafe\u0301\n"},
		{10, "Name\n" +
			"---------…\n" +
			"船舶一号…\n" +
			"cafe\u0301\n"},
	} {
		stdout := &capturedOutput{columns: test.columns}
		env := &Env{Stdout: stdout, output: "table", LookupEnv: Variables(nil)}
		if err := env.query.parse("[].{name:name, state:state, url:url}"); err != nil {
			t.Fatal(err)
		}
		if err := env.print(rows); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, stdout.String()); diff != "" {
			t.Errorf("%d columns: %s", test.columns, diff)
		}
	}
}

func TestNarrowTablesOmitNoMoreColumnsThanNeeded(t *testing.T) {
	text := func(s string) string { return s }
	columns := []column[string]{{title: "A", text: text}, {title: "B", text: text, rank: 1},
		{title: "C", text: text, rank: 1}, {title: "D", text: text}}
	rows := []string{strings.Repeat("x", 10)}
	for limit, want := range map[int]int{46: 4, 45: 3, 34: 3, 33: 2, 22: 2} {
		line := strings.Split(layout(rows, columns, limit), "\n")[2]
		if got := strings.Count(line, rows[0]); got != want || strings.Contains(line, "…") {
			t.Errorf("%d: %q, want %d columns", limit, line, want)
		}
	}
}

func TestNarrowTablesShortenTheLastCell(t *testing.T) {
	rows := []string{strings.Repeat("x", 20)}
	text := func(s string) string { return s }
	columns := []column[string]{{title: "A", text: text}, {title: "B", text: text}, {title: "C", text: text}}
	for _, test := range []struct {
		limit int
		want  string
	}{
		{0, rows[0] + "  " + rows[0] + "  " + rows[0]},
		{64, rows[0] + "  " + rows[0] + "  " + rows[0]},
		{60, rows[0] + "  " + rows[0] + "  " + strings.Repeat("x", 15) + "…"},
		{55, rows[0] + "  " + rows[0]},
		{40, rows[0] + "  " + strings.Repeat("x", 17) + "…"},
		{12, strings.Repeat("x", 11) + "…"},
	} {
		if got := strings.Split(layout(rows, columns, test.limit), "\n")[2]; got != test.want {
			t.Errorf("%d: %q, want %q", test.limit, got, test.want)
		}
	}
	columns[2].whole = true // such as a password, which is shown only once
	if got := strings.Split(layout(rows, columns, 30), "\n")[2]; !strings.HasSuffix(got, "  "+rows[0]) {
		t.Errorf("%q", got)
	}
}

func TestNoOutputFormatPassesTerminalControls(t *testing.T) {
	const hostile = "a\x1b]0;x\a\x7f\u009b2J\u202egnp.exe\u2066\u061c\u2028b\nferry: c\t"
	value := []any{map[string]any{"name" + hostile: hostile, "list": hostile}}
	for _, format := range []string{"json", "yaml", "table", "tsv"} {
		for _, query := range []string{"", "[0].list", "[].[list]"} {
			got, err := printed(t, format, query, value)
			if err != nil {
				t.Fatal(err)
			}
			if i := strings.IndexFunc(got,
				func(r rune) bool { return terminal.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
				t.Errorf("-o %s --query %q passes %q", format, query, got[i:])
			}
			if format != "json" && format != "yaml" {
				if lines := map[string]int{"table": 3, "tsv": 1}[format]; strings.Count(got, "\n") != lines {
					t.Errorf("-o %s --query %q has other lines than %d: %q", format, query, lines, got)
				}
				continue
			}
			// JSON and YAML can escape the characters, so no text is lost.
			var back, want any
			unmarshal := map[string]func([]byte, any) error{
				"json": json.Unmarshal, "yaml": func(b []byte, v any) error { return yaml.Load(b, v) },
			}[format]
			plainly, _ := printed(t, "json", query, value)
			if err := errors.Join(unmarshal([]byte(got), &back), json.Unmarshal([]byte(plainly), &want)); err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			if diff := cmp.Diff(want, back); diff != "" || !strings.Contains(fmt.Sprint(back), hostile) {
				t.Errorf("-o %s --query %q: %s", format, query, diff)
			}
		}
	}
	var errs bytes.Buffer
	report(&errs, withHint(errors.New(hostile+"\x9b"), "%s", hostile))
	if got := errs.String(); strings.ContainsFunc(strings.ReplaceAll(got, "\n", ""), terminal.IsControl) ||
		strings.Contains(got, "\x9b") {
		t.Errorf("an error passes %q", got)
	}
}

func TestColoursKeepTheText(t *testing.T) {
	value := map[string]any{"a \"b\": c": "true", "n": []any{-1.5, true, nil, "x: y", map[string]any{"k": "12"}}}
	for _, format := range []string{"json", "yaml"} {
		var plain, coloured bytes.Buffer
		variables := Variables(map[string]string{"FORCE_COLOR": "1"})
		err := errors.Join((&Env{Stdout: &plain, output: format}).print(value),
			(&Env{Stdout: &coloured, output: format + "c", LookupEnv: variables}).print(value))
		if err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured.String(), "")
		if got != plain.String() || strings.Count(coloured.String(), "\x1b") < 8 {
			t.Errorf("-o %sc: %q, want %q with colours", format, coloured.String(), plain.String())
		}
	}
	env := &Env{Stdout: &capturedOutput{columns: 80},
		LookupEnv: Variables(map[string]string{"NO_COLOR": "1", "FORCE_COLOR": "1"})}
	if env.coloured() {
		t.Error("NO_COLOR is ignored")
	}
}

func TestBackticksHoldJSONOrPlainText(t *testing.T) {
	for expression, want := range map[string]string{
		"[?name==`ship1`]":         "[?name==`\"ship1\"`]",
		"[?n==`5` && m==`\"a\"`]":  "[?n==`5` && m==`\"a\"`]",
		"[?n=='`x`' || \"a`b\"]":   "[?n=='`x`' || \"a`b\"]",
		"`a\\`b`":                  "`\"a\\`b\"`",
		"[?contains(@, ` ops/*`)]": "[?contains(@, `\"ops/*\"`)]",
		"`true`.`[1]`":             "`true`.`[1]`",
		"`open":                    "`open",
		"`a\"b`":                   "`a\"b`",
	} {
		if got := jsonLiterals(expression); got != want {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}

// FuzzJSONLiterals checks that every expression that is JMESPath stays what it is.
func FuzzJSONLiterals(f *testing.F) {
	for _, seed := range []string{"[?name==`ship1`]", "'a`b'", "`\\``", "\"`\"", "{a:`1`, b:'`'}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		got := jsonLiterals(expression)
		if _, err := jmespath.Compile(expression); err == nil && got != expression {
			t.Errorf("%q became %q", expression, got)
		}
		if again := jsonLiterals(got); again != got {
			t.Errorf("%q became %q, and then %q", expression, got, again)
		}
	})
}

func TestABrokenQueryIsAUsageError(t *testing.T) {
	for _, query := range []string{"[", "foo(", "a..b"} {
		_, err := printed(t, "json", query, []any{1})
		var errs bytes.Buffer
		if err == nil || report(&errs, err) != 2 || strings.Count(errs.String(), "\n") != 2 {
			t.Errorf("%q: %v: %q", query, err, errs.String())
		}
	}
}

func TestFailedQuerySaysThatTheCommandRan(t *testing.T) {
	_, err := printed(t, "json", "length(@[0])", []any{1})
	var errs bytes.Buffer
	if report(&errs, err) != 1 || !strings.Contains(errs.String(), "the command itself was run") {
		t.Errorf("%v: %q", err, errs.String())
	}
}

func TestErrorsFromServersCannotControlTheTerminal(t *testing.T) {
	got, err := printed(t, "table", "", []any{map[string]any{"name": "a\x1b[2J\nb"}})
	if err != nil || strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 3 {
		t.Errorf("%q, %v", got, err)
	}
	var errs bytes.Buffer
	report(&errs, &refusal{text: "a\nferry: b\x1b[2J", hint: "c\r\nd"})
	if got := errs.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}
