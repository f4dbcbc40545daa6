package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"ferry/internal/terminal"
)

// A column is a column of a table: its title, and its text for a row.
type column[T any] struct {
	title string
	text  func(row T) string

	// If the terminal is too narrow, columns with a rank above 0 are omitted, the highest
	// rank first and the last column of a rank first, and the texts of columns with cut are
	// shortened. If that is not enough, the last column is shortened, or omitted. A column with
	// whole is always shown completely, such as a password, which is shown only once.
	rank       int
	cut, whole bool
}

// The least width of a column with cut, and of the last column, if it is shortened.
const (
	minCutWidth  = 24
	minLastWidth = 12
)

// writeTable writes a line for each row. On a terminal, it omits columns that do not fit.
func writeTable[T any](w io.Writer, rows []T, columns []column[T]) error {
	_, err := io.WriteString(w, layout(rows, columns, columnsOf(w)))
	return err
}

// A layoutColumn is a column with all of its lines.
type layoutColumn struct {
	lines        []string // its title, a rule, and the text for each row
	width, least int      // the width of its longest line, and its width if shortened, in characters
	rank         int
	whole        bool
}

func newLayoutColumn[T any](c column[T], rows []T) layoutColumn {
	s := layoutColumn{lines: []string{terminal.Printable(c.title), ""}, rank: c.rank, whole: c.whole}
	s.width = textWidth(s.lines[0]) + 2 // the reference's tables have this much room
	for _, row := range rows {
		text := terminal.Printable(c.text(row))
		s.lines = append(s.lines, text)
		s.width = max(s.width, textWidth(text))
	}
	s.least = s.width
	if c.cut {
		s.least = min(s.width, minCutWidth)
	}
	return s
}

// layout returns the table of rows. If limit is not 0, its lines have at most limit
// characters, as far as ranks and cuts allow it.
func layout[T any](rows []T, columns []column[T], limit int) string {
	if len(rows) == 0 {
		return ""
	}
	var laidOut []layoutColumn
	room := limit + 2 // characters left in a line if every column has its least width
	for _, c := range columns {
		s := newLayoutColumn(c, rows)
		laidOut = append(laidOut, s)
		room -= s.least + 2
	}
	if limit > 0 {
		for room < 0 {
			worst := 0 // the last one of those with the highest rank
			for i, s := range laidOut {
				if s.rank >= laidOut[worst].rank {
					worst = i
				}
			}
			if laidOut[worst].rank == 0 {
				break
			}
			room += laidOut[worst].least + 2
			laidOut = slices.Delete(laidOut, worst, worst+1)
		}
		for room < 0 && len(laidOut) > 1 && !laidOut[len(laidOut)-1].whole {
			last := &laidOut[len(laidOut)-1]
			if last.least+room >= minLastWidth {
				last.least += room
				room = 0
				break
			}
			room += last.least + 2
			laidOut = laidOut[:len(laidOut)-1]
		}
		for i, s := range laidOut {
			laidOut[i].width = min(s.width, s.least+max(room, 0))
		}
	}
	lines := make([]string, len(rows)+2)
	for _, s := range laidOut {
		s.lines[1] = strings.Repeat("-", s.width)
		for i, text := range s.lines {
			lines[i] += widths.FillRight(cutText(text, s.width), s.width) + "  "
		}
	}
	isWhole := slices.ContainsFunc(laidOut, func(s layoutColumn) bool { return s.whole })
	for i, line := range lines {
		if line = strings.TrimRight(line, " "); limit > 0 && !isWhole {
			line = cutText(line, limit) // if nothing else can be omitted
		}
		lines[i] = line + "\n"
	}
	return strings.Join(lines, "")
}

// widths measures text as terminals show it: East Asian characters are twice as wide as others.
var widths = runewidth.Condition{}

// textWidth returns how many columns of a terminal a text takes.
func textWidth(text string) int { return widths.StringWidth(text) }

// cutText shortens a text to a number of columns, with an ellipsis.
func cutText(text string, limit int) string { return widths.Truncate(text, max(limit, 1), "…") }

// A capturedOutput is output that is shown on a terminal later.
type capturedOutput struct {
	bytes.Buffer
	columns int // the width of the terminal; 0 is no limit
}

// columnsOf returns the width of a terminal in characters; 0 if w is none.
func columnsOf(w io.Writer) int {
	if p, ok := w.(*capturedOutput); ok {
		return p.columns
	}
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// linesOf returns the number of lines of the terminal that w is; 0 if it is none.
func linesOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if _, height, err := term.GetSize(int(f.Fd())); err == nil {
			return height
		}
	}
	return 0
}

// columns returns the columns of the table of a plain value: one for every member that is neither
// an object nor an array in some row, in the order of the query. Rows that are arrays have
// numbered columns, and others only one. As in the reference, the table of a whole resource omits
// its id, type and etag.
func (q *query) columns(value any) (columns []column[any]) {
	var names []string
	for _, row := range elements(value) {
		switch row := row.(type) {
		case map[string]any:
			for _, name := range q.members(row) {
				_, isObject := row[name].(map[string]any)
				_, isArray := row[name].([]any)
				hidden := q.search == nil && (name == "id" || name == "type" || name == "etag")
				if row[name] != nil && !isObject && !isArray && !hidden && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		case []any:
			return numberedColumns(elements(value))
		default:
			return []column[any]{{title: "Result", text: cell}}
		}
	}
	for _, name := range names {
		text := func(v any) string {
			object, _ := v.(map[string]any)
			return cell(object[name])
		}
		columns = append(columns, column[any]{title: title(name), text: text})
	}
	return rankedByPlace(columns)
}

// numberedColumns returns a column for every place in rows that are arrays.
func numberedColumns(rows []any) (columns []column[any]) {
	for _, row := range rows {
		for i := len(columns); i < len(elements(row)); i++ {
			text := func(v any) string {
				if all := elements(v); i < len(all) {
					return cell(all[i])
				}
				return ""
			}
			columns = append(columns, column[any]{title: fmt.Sprintf("Column%d", i+1), text: text})
		}
	}
	return rankedByPlace(columns)
}

// rankedByPlace lets a narrow terminal omit the last columns first, and cut the first.
func rankedByPlace(columns []column[any]) []column[any] {
	for i := range columns {
		columns[i].rank, columns[i].cut = i, i == 0
	}
	return columns
}

// title is the name of a member with its first letter in upper case.
func title(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(r)) + name[size:]
}

// cell is the text of a [plain] value in a table.
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

// value returns *v, or the zero value if v is nil.
func value[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// seconds is a time without its fractions; "" for none.
func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
