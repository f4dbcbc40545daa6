package cli

import (
	"bytes"
	"regexp"
)

// coloured reports whether results may have colours: on a terminal, unless NO_COLOR is set
// (see no-color.org), and elsewhere if FORCE_COLOR is.
func (e *Env) coloured() bool {
	switch {
	case e.Getenv("NO_COLOR") != "":
		return false
	case e.Getenv("FORCE_COLOR") != "":
		return true
	}
	return columnsOf(e.Stdout) > 0 && !e.dumb()
}

// Colours of the parts of a result, which a terminal has in its own theme.
const (
	colourName   = "\x1b[34;1m"
	colourText   = "\x1b[32m"
	colourNumber = "\x1b[36m"
	colourWord   = "\x1b[35m" // true, false and null
	colourEnd    = "\x1b[0m"
)

var (
	jsonToken = regexp.MustCompile(`"(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d[\d.eE+-]*|true|false|null`)
	yamlName  = regexp.MustCompile(`(?m)^([ -]*)([^\s'"-][^:\n]*|'[^'\n]*'|"[^"\n]*"):( |$)`)
	yamlWord  = regexp.MustCompile(`(?m)((?:: |- |^))(true|false|null|~|-?\d[\d.eE+-]*)$`)
)

// colourJSON adds colours to JSON.
func colourJSON(text []byte) []byte {
	return jsonToken.ReplaceAllFunc(text, func(token []byte) []byte {
		name, isName := bytes.CutSuffix(token, []byte(":"))
		switch {
		case isName:
			return []byte(colourName + string(name) + colourEnd + ":")
		case token[0] == '"':
			return []byte(colourText + string(token) + colourEnd)
		case token[0] == '-' || token[0] >= '0' && token[0] <= '9':
			return []byte(colourNumber + string(token) + colourEnd)
		}
		return []byte(colourWord + string(token) + colourEnd)
	})
}

// colourYAML adds colours to the names, numbers and words of YAML.
func colourYAML(text []byte) []byte {
	text = yamlWord.ReplaceAll(text, []byte("${1}"+colourWord+"${2}"+colourEnd))
	return yamlName.ReplaceAll(text, []byte("${1}"+colourName+"${2}"+colourEnd+":${3}"))
}
