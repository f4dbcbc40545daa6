package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmespath-community/go-jmespath"
	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// ranAnyway is the hint after a query that failed on the result of a command.
const ranAnyway = "the command itself was run; if it made passwords, make new ones, with a query that finds them"

// A query is a JMESPath expression that selects a part of a result, in the reference's dialect:
// see [jsonLiterals]. The zero query selects all of it.
type query struct {
	text   string
	search jmespath.JMESPath
	hashes [][]string // the names in each {...} of the expression, in order
}

// parse sets the query. It runs before the command does, because a command may make
// passwords that are shown only once.
func (q *query) parse(text string) (err error) {
	if text == "" {
		return errEmpty
	}
	expression := jsonLiterals(text)
	if q.search, err = jmespath.Compile(expression); err == nil {
		tree, _ := parsing.NewParser().Parse(expression) // it was compiled
		q.text, q.hashes = text, hashNames(tree)
		return nil
	}
	return withHint(usagef("--query %s is not JMESPath: %v", clip(text), err),
		"see https://jmespath.org for the language, such as \"[?name=='ship1'].connectionState\"")
}

// run returns the selected part of a plain value.
func (q *query) run(value any) (any, error) {
	found, err := q.search.Search(value)
	if err != nil {
		return nil, fmt.Errorf("--query %s fails on the result: %w", clip(q.text), err)
	}
	return plain(found) // the search may return its own types
}

// members returns the names of an object's members: in the order of the query if that made the
// object, else in alphabetical order.
func (q *query) members(object map[string]any) []string {
	sorted := slices.Sorted(maps.Keys(object))
	for _, names := range q.hashes {
		if slices.Equal(sorted, slices.Sorted(slices.Values(names))) {
			return names
		}
	}
	return sorted
}

// hashNames returns the names in each {...} of an expression.
func hashNames(node parsing.ASTNode) (all [][]string) {
	if node.NodeType == parsing.ASTMultiSelectHash {
		var names []string
		for _, pair := range node.Children {
			if name, ok := pair.Value.(string); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		all = append(all, names)
	}
	for _, child := range node.Children {
		all = append(all, hashNames(child)...)
	}
	return all
}

// jsonLiterals returns an expression with quotes in those literals in backticks that are not
// JSON: `ship1` becomes `"ship1"`. The reference reads them so, and its documentation is full of
// them.
func jsonLiterals(expression string) string {
	var out strings.Builder
	for expression != "" {
		start := strings.IndexAny(expression, "'\"`")
		if start < 0 {
			break
		}
		end := closingQuote(expression[start:])
		if end < 0 {
			break // the parser says what is wrong
		}
		end += start + 1
		out.WriteString(expression[:start])
		text := expression[start:end]
		if text[0] == '`' {
			text = quotedLiteral(text)
		}
		out.WriteString(text)
		expression = expression[end:]
	}
	return out.String() + expression
}

// closingQuote returns the index of the character that ends the text in quotes at the beginning
// of an expression; below 0 if there is none.
func closingQuote(expression string) int {
	for i := 1; i < len(expression); i++ {
		switch expression[i] {
		case '\\':
			i++
		case expression[0]:
			return i
		}
	}
	return -1
}

// quotedLiteral returns a literal, with its backticks, as JSON if it is not.
func quotedLiteral(literal string) string {
	text := strings.ReplaceAll(literal[1:len(literal)-1], "\\`", "`")
	if json.Valid([]byte(text)) {
		return literal
	}
	text = `"` + strings.TrimLeft(text, " \t\n") + `"`
	if !json.Valid([]byte(text)) {
		return literal
	}
	return "`" + strings.ReplaceAll(text, "`", "\\`") + "`"
}
