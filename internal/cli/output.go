package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"ferry/internal/terminal"
)

// outputForms are the forms of a result that every command knows: those of the reference.
var outputForms = []string{"json", "jsonc", "yaml", "yamlc", "table", "tsv", "none"}

// outputUsage is the help of --output.
const outputUsage = "the form of the result; jsonc and yamlc have colours on a terminal"

// textOutputVar defines --output for a command whose result is sentences by default.
func textOutputVar(set *pflag.FlagSet) {
	choiceVar(set, new(string), "output", "o", "text", outputUsage, append([]string{"text"}, outputForms...)...)
}

// asText reports whether the result is shown as sentences for people.
func (e *Env) asText() bool { return e.output == "text" && e.query.search == nil }

// asTable reports whether the whole result is shown as a table.
func (e *Env) asTable() bool { return e.output == "table" && e.query.search == nil }

// say prints sentences for people. They may contain text from other machines.
func (e *Env) say(text string) { fmt.Fprintln(e.Stdout, terminal.PrintableLines(text)) }

// print shows a result in the form that --output and --query ask for. A table has those
// members of the result that are neither objects nor arrays. As in the reference, nothing is
// written for a query that finds nothing.
func (e *Env) print(result any) error {
	value, err := plain(result)
	if err != nil {
		return err
	}
	if e.query.search != nil {
		if value, err = e.query.run(value); err != nil {
			return withHint(err, ranAnyway)
		}
		if e.file.open() && isEmpty(value) {
			return withHint(
				fmt.Errorf("--query %s finds nothing, so %s was not written", clip(e.query.text), clip(e.file.path)),
				ranAnyway)
		}
		if value == nil {
			return nil
		}
	}
	switch e.output {
	case "none":
		return nil
	case "table":
		return writeTable(e.Stdout, elements(value), e.query.columns(value))
	case "tsv":
		return writeTSV(e.Stdout, elements(value), e.query.members)
	case "yaml", "yamlc":
		text, err := yaml.Dump(wholeNumbers(value))
		if err != nil {
			return fmt.Errorf("write yaml: %w", err)
		}
		if terminal.HasControl(text) {
			return writeJSON(e.Stdout, value) // JSON is YAML, too, and can escape such characters
		}
		if e.output == "yamlc" && e.coloured() {
			text = colourYAML(text)
		}
		_, err = e.Stdout.Write(text)
		return err
	case "jsonc":
		if e.coloured() {
			var text bytes.Buffer
			if err := writeJSON(&text, value); err != nil {
				return err
			}
			_, err = e.Stdout.Write(colourJSON(text.Bytes()))
			return err
		}
	}
	return writeJSON(e.Stdout, value)
}

// elements returns the elements of an array, or the value itself as the only one.
func elements(value any) []any {
	if rows, ok := value.([]any); ok {
		return rows
	}
	if value == nil {
		return nil
	}
	return []any{value}
}

// isEmpty reports whether a plain value is empty: null, "", or made of such values only.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, isNotEmpty)
	case map[string]any:
		return !slices.ContainsFunc(slices.Collect(maps.Values(v)), isNotEmpty)
	}
	return false
}

func isNotEmpty(v any) bool { return !isEmpty(v) }

// plain turns a value into the types of decoded JSON: maps, slices, strings, numbers,
// booleans and nil.
func plain(v any) (p any, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// wholeNumbers turns the whole numbers of a plain value into integers. YAML would write
// them with an exponent otherwise.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); float64(n) == v && max(n, -n) < 1<<53 { // above that, floats skip integers
			return n
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = wholeNumbers(v[name])
		}
	}
	return v
}

// writeJSON writes v like the reference: members in alphabetical order, indented by two
// spaces.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(terminal.Escape(text.Bytes()))
	return err
}

// writeTSV writes a line for each row, with tabs between its members, which members returns in
// order. As in the reference, null is the word None, an array the number of its elements, an
// object nothing, and a boolean in a row True or False, but true or false alone.
func writeTSV(w io.Writer, rows []any, members func(map[string]any) []string) error {
	var text strings.Builder
	for _, row := range rows {
		var cells []string
		switch row := row.(type) {
		case map[string]any:
			for _, name := range members(row) {
				cells = append(cells, tsvCell(row[name]))
			}
		case []any:
			for _, v := range row {
				cells = append(cells, tsvCell(v))
			}
		case bool:
			cells = []string{fmt.Sprint(row)}
		default:
			cells = []string{tsvCell(row)}
		}
		text.WriteString(strings.Join(cells, "\t") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func tsvCell(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case map[string]any:
		return ""
	case []any:
		return fmt.Sprint(len(v))
	}
	return terminal.Printable(cell(v))
}
