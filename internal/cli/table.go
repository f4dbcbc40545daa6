package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"ferry/internal/terminal"
)

// A column is a table's column: its title, and what it shows of a row.
type column[T any] struct {
	title string
	text  func(row T) string

	// On a terminal that is too narrow, a column whose rank is above 0 is left
	// out, the highest rank first, and what may be cut is cut.
	rank int
	cut  bool
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
	rank         int
}

func newStrip[T any](c column[T], rows []T) strip {
	s := strip{lines: []string{terminal.Printable(c.title), ""}, rank: c.rank}
	s.width = utf8.RuneCountInString(s.lines[0]) + 2 // the reference's tables have this much room
	for _, row := range rows {
		text := terminal.Printable(c.text(row))
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
	room := limit + 2 // how many characters a line has left, when all that may be cut is
	for _, c := range columns {
		s := newStrip(c, rows)
		strips = append(strips, s)
		room -= s.least + 2
	}
	if limit > 0 {
		for room < 0 {
			worst := slices.MaxFunc(strips, func(a, b strip) int { return cmp.Compare(a.rank, b.rank) })
			if worst.rank == 0 {
				break
			}
			strips = slices.DeleteFunc(strips, func(s strip) bool { return s.rank == worst.rank })
			room += worst.least + 2
		}
		for i, s := range strips {
			strips[i].width = min(s.width, s.least+max(room, 0))
		}
	}
	lines := make([]string, len(rows)+2)
	for _, s := range strips {
		s.lines[1] = strings.Repeat("-", s.width)
		for i, text := range s.lines {
			if utf8.RuneCountInString(text) > s.width {
				text = string([]rune(text)[:s.width-1]) + "…"
			}
			lines[i] += fmt.Sprintf("%-*s  ", s.width, text)
		}
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ") + "\n"
	}
	return strings.Join(lines, "")
}

// columnsOf is how many characters a line of a terminal has; 0 is any number.
func columnsOf(w io.Writer) int {
	if p, ok := w.(*page); ok {
		return p.columns
	}
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// plainColumns returns a column for every member that is a plain value in
// any of the rows, and for rows that are no objects a single one.
func plainColumns(rows []any) []column[any] {
	names := map[string]bool{}
	for _, row := range rows {
		object, ok := row.(map[string]any)
		if !ok {
			return []column[any]{{title: "Result", text: cell}}
		}
		for name, v := range object {
			switch v.(type) {
			case map[string]any, []any, nil:
			default:
				names[name] = true
			}
		}
	}
	var columns []column[any]
	for _, name := range slices.Sorted(maps.Keys(names)) {
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
