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

// A strip is a column as it is laid out.
type strip struct {
	lines        []string // its title, a rule, and a value of each row
	width, least int      // in characters: of its longest line, and if it is cut
	spare        int
}

func newStrip[T any](c column[T], rows []T) strip {
	s := strip{lines: []string{c.title, ""}, width: len(c.title) + 2, spare: c.spare} // the reference's tables have this much room
	for _, row := range rows {
		text := printable(c.text(row))
		s.lines = append(s.lines, text)
		s.width = max(s.width, utf8.RuneCountInString(text))
	}
	s.least = s.width
	if c.cut {
		s.least = min(s.width, leastCut)
	}
	return s
}

// layOut returns the table of rows, as wide as it is, or at most limit
// characters where that is not 0 and its columns let it.
func layOut[T any](rows []T, columns []column[T], limit int) string {
	if len(rows) == 0 {
		return ""
	}
	var strips []strip
	over := -2 - limit // how many characters a line has too many, when all that may be cut is
	for _, c := range columns {
		s := newStrip(c, rows)
		strips = append(strips, s)
		over += s.least + 2
	}
	for limit > 0 && over > 0 {
		first := -1
		for i, s := range strips {
			if s.spare > 0 && (first < 0 || s.spare < strips[first].spare) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		over -= strips[first].least + 2
		strips = slices.Delete(strips, first, first+1)
	}
	text := make([]strings.Builder, len(rows)+2)
	for _, s := range strips {
		if limit > 0 {
			s.width = min(s.width, s.least+max(-over, 0))
		}
		s.lines[1] = strings.Repeat("-", s.width)
		for i, line := range s.lines {
			if utf8.RuneCountInString(line) > s.width {
				line = string([]rune(line)[:s.width-1]) + "…"
			}
			fmt.Fprintf(&text[i], "%-*s  ", s.width, line)
		}
	}
	var table strings.Builder
	for i := range text {
		table.WriteString(strings.TrimRight(text[i].String(), " ") + "\n")
	}
	return table.String()
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
