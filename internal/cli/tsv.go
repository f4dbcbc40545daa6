package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeTSV writes a line for each element of value, or for value itself, with
// tabs between its members in alphabetical order. As in the reference, null
// is the word None, and a nested array or object is the number of its members.
func writeTSV(w io.Writer, value any) error {
	rows, ok := value.([]any)
	if !ok {
		rows = []any{value}
	}
	var text strings.Builder
	for _, row := range rows {
		var cells []string
		switch row := row.(type) {
		case map[string]any:
			names := make([]string, 0, len(row))
			for name := range row {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				cells = append(cells, tsvCell(row[name]))
			}
		case []any:
			for _, v := range row {
				cells = append(cells, tsvCell(v))
			}
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
	case map[string]any:
		return fmt.Sprint(len(v))
	case []any:
		return fmt.Sprint(len(v))
	}
	return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(cell(v))
}
