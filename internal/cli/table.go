package cli

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A column is a table's column: its title, and the path of members that
// leads to its value, the row itself where it is empty. show, where it is not nil, turns that value into text.
type column struct {
	title string
	path  string // "parent.syncProperties.schedule"
	show  func(any) string
}

func (c column) text(row any) string {
	v := row
	if c.path != "" {
		v = member(row, c.path)
	}
	if c.show != nil {
		return c.show(v)
	}
	return cell(v)
}

// member follows a path of names through objects; nil where it ends early.
func member(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[name]
	}
	return v
}

// writeTable writes one row for each element of value, or for value itself.
func writeTable(w io.Writer, value any, columns []column) error {
	rows, ok := value.([]any)
	if !ok {
		if value == nil {
			return nil
		}
		rows = []any{value}
	}
	if columns == nil {
		columns = plainColumns(rows)
	}
	if len(rows) == 0 || len(columns) == 0 {
		return nil
	}
	lines := make([][]string, 2, len(rows)+2)
	for _, c := range columns {
		lines[0] = append(lines[0], c.title)
	}
	for _, row := range rows {
		var line []string
		for _, c := range columns {
			line = append(line, printable(c.text(row)))
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = utf8.RuneCountInString(c.title) + 2 // the reference's tables have this much room
		for _, line := range lines[2:] {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		lines[1] = append(lines[1], strings.Repeat("-", widths[i]))
	}
	var text strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, s := range line {
			fmt.Fprintf(&row, "%-*s  ", widths[i], s)
		}
		text.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// plainColumns returns a column for every member that is a plain value in
// any of the rows, and for rows that are no objects a single one.
func plainColumns(rows []any) []column {
	var names []string
	for _, row := range rows {
		object, ok := row.(map[string]any)
		if !ok {
			return []column{{title: "Result"}}
		}
		for name, v := range object {
			switch v.(type) {
			case map[string]any, []any, nil:
			default:
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	sort.Strings(names)
	var columns []column
	for _, name := range names {
		columns = append(columns, column{title: title(name), show: func(v any) string { return cell(v.(map[string]any)[name]) }})
	}
	return columns
}

// title is a member's name with its first letter in upper case.
func title(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(r)) + name[size:]
}

// cell is a plain value as a table shows it.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any:
		return fmt.Sprintf("{%d}", len(v))
	case []any:
		return fmt.Sprintf("[%d]", len(v))
	}
	return fmt.Sprint(v)
}

// printable keeps a value from another machine from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// lastSegment is a column's value for an id, which is a path: its last name.
func lastSegment(v any) string {
	s := cell(v)
	return s[strings.LastIndex(s, "/")+1:]
}

// orNever is a column's value for an expiry.
func orNever(v any) string {
	if v == nil {
		return "Never"
	}
	return seconds(v)
}

// seconds is a column's value for a time, without its fractions.
func seconds(v any) string {
	t, err := time.Parse(time.RFC3339, cell(v))
	if err != nil {
		return cell(v)
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
