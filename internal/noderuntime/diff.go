package noderuntime

import (
	"fmt"
	"regexp"
	"strings"

	udiff "github.com/rogpeppe/go-internal/diff"
)

// secretKey finds a key whose value is a password or leads to one, also inside a map or list on
// one line. header is a map of them.
var secretKey = regexp.MustCompile(`(?i)(?:^|[{,[])[ \t]*(?:- )?[ \t]*["']?(?:[\w-]*(?:authorization|password|` +
	`passwd|token|secret|cookie)|auth|header|(?:api[_-]?)?key)["']?[ \t]*[:=][ \t]*`)

// plainLine finds a line that is not part of the value above it: an empty line, a key, a table
// or a comment, or the end of a map or list.
var plainLine = regexp.MustCompile(`^[ \t]*(?:$|#|\[\[?[^,]*\]$|[]})]+,?$|(?:- )?["']?[^"'\s:=]+["']?[ \t]*[:=])`)

// headerTable finds the start of a table of headers in TOML, anyTable that of any.
var (
	headerTable = regexp.MustCompile(`(?i)^[ \t]*\[[^]]*\bheader["']?[ \t]*\]`)
	anyTable    = regexp.MustCompile(`^[ \t]*\[`)
	anyKey      = regexp.MustCompile(`^[ \t]*["']?[^"'\s=]+["']?[ \t]*=[ \t]*`)
)

// secretInside finds the user's part of a URL.
var secretInside = regexp.MustCompile(`(://)[^/\s"']+@`)

const notShown = "(not shown)"

// masked returns text without secrets. It knows no syntax, and rather hides too much.
func masked(text []byte) []byte {
	var out strings.Builder
	value := openValue{} // of the last secret key
	inHeader := false
	for line := range strings.Lines(string(text)) {
		content := strings.TrimRight(line, " \t\r\n")
		end := line[len(content):]
		if value.hides(content) {
			out.WriteString(content[:indentation(content)] + notShown + end)
			continue
		}
		if anyTable.MatchString(content) {
			inHeader = headerTable.MatchString(content)
		}
		at := secretKey.FindStringIndex(content)
		if at == nil && inHeader {
			at = anyKey.FindStringIndex(content)
		}
		if at != nil {
			value = newOpenValue(content, content[at[1]:])
			if !value.isMap {
				content = content[:at[1]] + notShown
			}
		}
		out.WriteString(content + end)
	}
	return secretInside.ReplaceAll([]byte(out.String()), []byte("${1}"+notShown+"@"))
}

// An openValue is the value of a secret key, which may continue on the next lines.
type openValue struct {
	open   bool
	isMap  bool   // nothing but the start of a map stands beside the key
	block  bool   // every line that is indented more belongs to it
	closer string // every line belongs to it until one has this; "" is none
	indent int    // of the key
}

func newOpenValue(line, text string) openValue {
	v := openValue{open: true, indent: indentation(line)}
	v.isMap = text == "" || text == "{" || text == "{}" || text == "{}," || text[0] == '#'
	for _, pair := range []struct{ start, end string }{{`"""`, `"""`}, {"'''", "'''"}, {"[", "]"}, {"{", "}"},
		{`"`, `"`}, {"'", "'"}} {
		if inner, ok := strings.CutPrefix(text, pair.start); ok && !v.isMap {
			if !strings.Contains(inner, pair.end) {
				v.closer = pair.end
			}
			break
		}
	}
	v.block = text != "" && (text[0] == '|' || text[0] == '>')
	return v
}

// hides reports whether a line is part of the value.
func (v *openValue) hides(line string) bool {
	switch {
	case !v.open:
		return false
	case v.closer != "":
		v.open = !strings.Contains(line, v.closer)
		return true
	case line == "":
		return false
	case indentation(line) <= v.indent:
		v.open = false
		return false
	}
	return v.block || !plainLine.MatchString(line)
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

// unified returns the change of a file as a unified diff. Secrets are masked in it.
func unified(name string, old, new *snapshot) string {
	if old == nil && new == nil {
		return ""
	}
	if old != nil && old.Link != "" || new != nil && new.Link != "" {
		return linkDiff(name, old, new)
	}
	oldName, newName := "a/"+name, "b/"+name
	var oldText, newText []byte
	if old == nil {
		oldName = "/dev/null"
	} else {
		oldText = old.text
	}
	if new == nil {
		newName = "/dev/null"
	} else {
		newText = new.text
	}
	if strings.HasSuffix(name, ".crt") {
		// Nobody reads a certificate line by line.
		oldText, newText = summary(oldText), summary(newText)
	}
	text := string(udiff.Diff(oldName, masked(oldText), newName, masked(newText)))
	_, text, _ = strings.Cut(text, "\n") // its first line is a command
	if text == "" && !old.sameContent(new) {
		text = "(only a password differs)\n"
	}
	mode := ""
	if old != nil && new != nil && old.Mode != new.Mode {
		mode = fmt.Sprintf("mode %04o becomes %04o\n", old.Mode, new.Mode)
	}
	return mode + text
}

func summary(text []byte) []byte {
	if text == nil {
		return nil
	}
	return fmt.Appendf(nil, "(%d bytes of certificates)\n", len(text))
}

func linkDiff(name string, old, new *snapshot) string {
	var b strings.Builder
	for _, side := range []struct {
		sign string
		s    *snapshot
	}{{"-", old}, {"+", new}} {
		switch {
		case side.s == nil:
		case side.s.Link != "":
			fmt.Fprintf(&b, "%s %s -> %s\n", side.sign, name, side.s.Link)
		default:
			fmt.Fprintf(&b, "%s %s\n", side.sign, name)
		}
	}
	return b.String()
}
