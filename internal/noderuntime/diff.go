package noderuntime

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	udiff "github.com/rogpeppe/go-internal/diff"
)

// secret finds the values of a configuration that are passwords or lead to them.
var secret = regexp.MustCompile(`(?im)^([ \t]*(?:- )?[ \t]*["']?(?:proxy-)?(?:authorization|password|passwd|` +
	`token|auth|identity_?token|registry_?token|secret|key)["']?[ \t]*[:=][ \t]*)(\S.*)$`)

// secretInside finds the user's part of a URL.
var secretInside = regexp.MustCompile(`(://)[^/\s"'@]+@`)

// masked returns text without secrets.
func masked(text []byte) []byte {
	text = secret.ReplaceAllFunc(text, func(line []byte) []byte {
		m := secret.FindSubmatch(line)
		value := strings.TrimRight(string(m[2]), " \t\r,")
		if value == "{" || value == "[" || value == "{}" || strings.HasPrefix(value, "#") {
			return line
		}
		return slices.Concat(m[1], []byte("(not shown)"))
	})
	return secretInside.ReplaceAll(text, []byte("${1}(not shown)@"))
}

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
