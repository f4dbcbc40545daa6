package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// A name is a word, or several in one, that code or data is known by.
type name struct {
	text string
	line int  // 0 for the file's own name
	test bool // of a test function
}

// names returns the names that a file declares: its own and that of its
// directory, identifiers of Go, columns and tables of SQL, keys of JSON and
// YAML, flags, settings, metrics and keys of the log.
func names(file, text string) []name {
	all := []name{{text: path.Base(file)}, {text: path.Base(path.Dir(file))}}
	switch path.Ext(file) {
	case ".go":
		all = append(all, goNames(file, text)...)
	case ".sql":
		all = append(all, sqlNames(text)...)
	}
	return all
}

// split returns the words of a name, in lower case: "HTTPServer_id" is http,
// server and id.
func split(name string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			continue
		}
		if unicode.IsUpper(r) && len(word) > 0 {
			beforeLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if !unicode.IsUpper(word[len(word)-1]) || beforeLower {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return words
}

var (
	sqlComment = regexp.MustCompile(`--.*`)
	sqlText    = regexp.MustCompile(`'[^'\n]*'`)
	sqlWord    = regexp.MustCompile(`[a-z_][a-z0-9_]*`)
)

func sqlNames(text string) []name {
	var all []name
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = sqlText.ReplaceAllString(sqlComment.ReplaceAllString(line, ""), "")
		for _, word := range sqlWord.FindAllString(line, -1) {
			all = append(all, name{text: word, line: number})
		}
	}
	return all
}

// goNames returns nothing for a file that does not parse: the compiler says so.
func goNames(file, text string) []name {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, text, parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	c := &collector{set: set, test: strings.HasSuffix(file, "_test.go")}
	c.add(parsed.Name)
	ast.Inspect(parsed, c.visit)
	return c.names
}

type collector struct {
	set   *token.FileSet
	test  bool // of a test file, whose strings name nothing
	names []name
}

func (c *collector) add(ids ...*ast.Ident) {
	for _, id := range ids {
		if id != nil {
			c.names = append(c.names, name{text: id.Name, line: c.line(id)})
		}
	}
}

func (c *collector) line(n ast.Node) int { return c.set.Position(n.Pos()).Line }

func (c *collector) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		c.names = append(c.names, name{text: n.Name.Name, line: c.line(n.Name), test: isTest(n)})
	case *ast.TypeSpec:
		c.add(n.Name)
	case *ast.ValueSpec:
		c.add(n.Names...)
	case *ast.Field:
		c.add(n.Names...)
		c.tag(n.Tag)
	case *ast.ImportSpec:
		c.add(n.Name)
	case *ast.LabeledStmt:
		c.add(n.Label)
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			c.assigned(n.Lhs...)
		}
	case *ast.RangeStmt:
		if n.Tok == token.DEFINE {
			c.assigned(n.Key, n.Value)
		}
	case *ast.CallExpr:
		c.call(n)
	case *ast.BasicLit:
		if text, ok := literal(n); ok && !c.test && compound.MatchString(text) {
			c.names = append(c.names, name{text: text, line: c.line(n)})
		}
	}
	return true
}

func (c *collector) assigned(to ...ast.Expr) {
	for _, e := range to {
		if id, ok := e.(*ast.Ident); ok {
			c.add(id)
		}
	}
}

// compound is a string that can only be a name: a setting, a metric, a flag.
var compound = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)+$`)

var tagKeys = []string{"json", "yaml", "query", "path", "header"}

func (c *collector) tag(tag *ast.BasicLit) {
	if tag == nil {
		return
	}
	text, _ := literal(tag)
	for _, key := range tagKeys {
		field, _, _ := strings.Cut(reflect.StructTag(text).Get(key), ",")
		c.names = append(c.names, name{text: field, line: c.line(tag)})
	}
}

var logMethods = regexp.MustCompile(`^(Debug|Info|Warn|Error|With|Log|LogAttrs)(Context)?$`)

// call adds the keys of a log line, and the name that a call of BoolVar and the
// like gives to a flag.
func (c *collector) call(n *ast.CallExpr) {
	called := ""
	switch fun := n.Fun.(type) {
	case *ast.Ident:
		called = fun.Name
	case *ast.SelectorExpr:
		called = fun.Sel.Name
	}
	texts := 0
	for i, arg := range n.Args {
		lit, ok := arg.(*ast.BasicLit)
		if !ok {
			continue
		}
		text, ok := literal(lit)
		if !ok {
			continue
		}
		texts++
		// --site is what people type, and in text for people a connected registry may be a site.
		isFlag := texts == 1 && text != "site" &&
			(strings.HasSuffix(called, "Var") || strings.HasSuffix(called, "VarP"))
		isKey := logMethods.MatchString(called) && (i > 0 || called == "With") && i+1 < len(n.Args) &&
			!strings.Contains(text, " ")
		if isFlag || isKey {
			c.names = append(c.names, name{text: text, line: c.line(lit)})
		}
	}
}

func literal(lit *ast.BasicLit) (string, bool) {
	if lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

func isTest(f *ast.FuncDecl) bool {
	if f.Recv != nil {
		return false
	}
	for _, kind := range []string{"Test", "Benchmark", "Fuzz"} {
		if rest, ok := strings.CutPrefix(f.Name.Name, kind); ok && rest != "" && !unicode.IsLower(rune(rest[0])) {
			return true
		}
	}
	return false
}
