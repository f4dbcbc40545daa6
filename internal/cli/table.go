package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// A column is a table's column: its title, and what it shows of a row.
type column[T any] struct {
	title string
	text  func(row T) string

	// What becomes of it on a terminal that is too narrow: those with the
	// least spare that is not 0 go first, and what may be cut is.
	spare int
	cut   bool
}

// leastCut is how many characters of a value that is cut are left.
const leastCut = 24

// writeTable writes a line for each of rows. On a terminal it has no more
// columns than fit.
func writeTable[T any](w io.Writer, rows []T, columns []column[T]) error {
	_, err := io.WriteString(w, layOut(rows, columns, columnsOf(w)))
	return err
}

// writePlainTable writes a table of a value that JSON decodes to: a line for
// each element, or for the value itself, with its plain members.
func writePlainTable(w io.Writer, value any) error {
	rows, ok := value.([]any)
	if !ok && value != nil {
		rows = []any{value}
	}
	return writeTable(w, rows, plainColumns(rows))
}

// layOut returns the table of rows, as wide as it is, or at most limit
// characters where that is not 0 and its columns let it.
func layOut[T any](rows []T, columns []column[T], limit int) string {
	if len(rows) == 0 || len(columns) == 0 {
		return ""
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
	}
	shown := fit(columns, widths, limit)
	for _, width := range widths {
		lines[1] = append(lines[1], strings.Repeat("-", width))
	}
	var text strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for _, i := range shown {
			fmt.Fprintf(&row, "%-*s  ", widths[i], cutTo(line[i], widths[i]))
		}
		text.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return text.String()
}

// fit returns which of the columns are shown within limit characters, and
// narrows the width of one that may be cut; all are where limit is 0.
func fit[T any](columns []column[T], widths []int, limit int) []int {
	shown := make([]int, len(columns))
	for i := range shown {
		shown[i] = i
	}
	over := func(width func(i int) int) int {
		sum := -2
		for _, i := range shown {
			sum += width(i) + 2
		}
		return sum - limit
	}
	least := func(i int) int {
		if columns[i].cut {
			return min(widths[i], leastCut)
		}
		return widths[i]
	}
	for limit > 0 && over(least) > 0 {
		spare := -1
		for _, i := range shown {
			if s := columns[i].spare; s > 0 && (spare < 0 || s < columns[spare].spare) {
				spare = i
			}
		}
		if spare < 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == spare })
	}
	for _, i := range shown {
		if n := over(func(i int) int { return widths[i] }); limit > 0 && columns[i].cut && n > 0 {
			widths[i] = max(least(i), widths[i]-n)
		}
	}
	return shown
}

// cutTo leaves the beginning of a text that is longer than n characters.
func cutTo(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// columnsOf is how many characters a line of a terminal has; 0 is any number.
func columnsOf(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}

// plainColumns returns a column for every member that is a plain value in
// any of the rows, and for rows that are no objects a single one.
func plainColumns(rows []any) []column[any] {
	var names []string
	for _, row := range rows {
		object, ok := row.(map[string]any)
		if !ok {
			return []column[any]{{title: "Result", text: cell}}
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
	var columns []column[any]
	for _, name := range names {
		text := func(v any) string { return cell(v.(map[string]any)[name]) }
		columns = append(columns, column[any]{title: title(name), text: text})
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

// lastSegment is the last name of an id, which is a path.
func lastSegment(id string) string { return id[strings.LastIndex(id, "/")+1:] }

// value is what v leads to; the zero value for nil, which is JSON's null.
func value[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// seconds is a time without its fractions; "" for none.
func seconds(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
