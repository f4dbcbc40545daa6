package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/oci"
	"ferry/internal/subscription"
)

// Limits on a filter.
const (
	maxFilter = 2000 // bytes
	maxTerms  = 20
)

// A Filter selects connected registries: those that satisfy every term. docs/cli.md has the grammar.
type Filter struct{ terms []term }

// A term is one condition of a filter.
type term struct {
	text    string
	exclude bool // only connected registries that do not satisfy the rest
	key     string
	op      string // ":", "<", "<=", ">" or ">="
	values  []string
	amount  int64 // of a comparison: bytes, items or nanoseconds
	image   imageRef
}

// ParseFilter reads a filter: terms with spaces in between, such as
//
//	state:behind,silent behind>1d reason:DiskError group:baltic version:<0.3 -name:test*
//
// "" selects every connected registry.
func ParseFilter(text string) (f Filter, err error) {
	if len(text) > maxFilter {
		return f, control.Invalid("the filter is longer than %d bytes", maxFilter)
	}
	for n, word := range strings.Fields(text) {
		if n == maxTerms {
			return f, control.Invalid("the filter has more than %d terms", maxTerms)
		}
		t, err := parseTerm(word)
		if err != nil {
			return f, control.Invalid("filter, term %d ('%.100s'): %v", n+1, word, err).WithHint(
				"terms are such as state:behind behind>1d reason:DiskError group:baltic version:<0.3 -name:test*")
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

func parseTerm(text string) (t term, err error) {
	t.text = text
	rest := text
	if strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "!") {
		t.exclude, rest = true, rest[1:]
	}
	at := strings.IndexAny(rest, ":<>")
	if at <= 0 {
		return t, fmt.Errorf("want KEY:VALUE, such as name:%s", strings.Trim(rest, ":<>")+"*")
	}
	t.key, rest = rest[:at], rest[at:]
	t.op, rest = ":", strings.TrimPrefix(rest, ":")
	if order := strings.IndexAny(rest, "<>"); order == 0 {
		t.op, rest = rest[:1], rest[1:]
		if strings.HasPrefix(rest, "=") {
			t.op, rest = t.op+"=", rest[1:]
		}
	}
	if rest == "" {
		return t, fmt.Errorf("it has no value")
	}
	if key := strings.ToLower(t.key); slices.Contains(filterKeys, key) {
		t.key = key
		return t, t.parseValue(rest)
	}
	if t.op != ":" {
		return t, fmt.Errorf("'%s' is a label, and labels have no order: want %s:VALUE", t.key, t.key)
	}
	if err := checkLabel(t.key, "value"); err != nil {
		return t, err
	}
	t.values = strings.Split(rest, ",")
	return t, nil
}

// parseValue reads the value of a term whose key is no label.
func (t *term) parseValue(text string) (err error) {
	var compares func(string) (int64, error)
	switch t.key {
	case "behind", "heard":
		compares = parseAge
	case "items":
		compares = parseNumber
	case "bytes":
		compares = parseSize
	}
	switch {
	case compares != nil && t.op == ":":
		return fmt.Errorf("want a comparison, such as %s>%s", t.key, text)
	case compares != nil:
		t.amount, err = compares(text)
		return err
	case t.key == "version" && t.op != ":":
		if _, ok := subscription.CompareVersions(text, "0"); !ok {
			return fmt.Errorf("'%s' is not a version, such as 0.3", text)
		}
		t.values = []string{text}
		return nil
	case t.op != ":":
		return fmt.Errorf("'%s' has no order: want %s:VALUE", t.key, t.key)
	case t.key == "image":
		t.image, err = parseImageRef(text)
		return err
	}
	t.values = strings.Split(text, ",")
	known := map[string][]string{"state": states, "mode": {api.ReadOnly, api.ReadWrite}}[t.key]
	for _, value := range t.values {
		if known != nil && !slices.ContainsFunc(known, func(s string) bool { return strings.EqualFold(s, value) }) {
			return fmt.Errorf("'%s' is not a %s: want one of %s", value, t.key, strings.Join(known, ", "))
		}
	}
	return nil
}

// parseAge reads a time such as 30m, 4h, 2d or 2d4h, in nanoseconds.
func parseAge(text string) (int64, error) {
	bad := fmt.Errorf("'%s' is not a time, such as 30m, 4h, 2d or 2d4h", text)
	var sum time.Duration
	for rest := text; rest != ""; {
		digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if digits <= 0 || digits > 6 {
			return 0, bad
		}
		n, _ := strconv.Atoi(rest[:digits]) // at most six digits
		unit, ok := map[byte]time.Duration{
			's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
		}[rest[digits]]
		if sum += time.Duration(n) * unit; !ok || sum > 100*365*24*time.Hour || n > 50_000 && unit > time.Hour {
			return 0, bad
		}
		rest = rest[digits+1:]
	}
	return int64(sum), nil
}

func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("'%s' is not a number", text)
	}
	return int64(n), nil
}

// parseSize reads a number of bytes, such as 500MB or 2GiB.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiBkmgtb")
	n, err := strconv.ParseFloat(digits, 64)
	factor, ok := map[string]float64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30,
		"t": 1 << 40, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[strings.ToLower(text[len(digits):])]
	if err != nil || !ok || n < 0 || n*factor > 1<<60 || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("'%s' is not a size, such as 500MB or 2GiB", text)
	}
	return int64(n * factor), nil
}

// A matcher is a filter at one time.
type matcher struct {
	terms   []term
	now     time.Time
	holders []*holders // of each term with an image: who has it

	// sees reports whether the caller sees a connected registry; nil if the caller sees all.
	sees func(name string) bool
}

// matches reports whether a connected registry satisfies every term.
func (m matcher) matches(v *Standing) (bool, error) {
	for i, t := range m.terms {
		satisfied := false
		if h := m.holders[i]; h == nil {
			satisfied = m.satisfies(v, t)
		} else if v.path != nil {
			got, err := h.of(v)
			if err != nil {
				return false, err
			}
			satisfied = got.state == api.Has
		}
		if satisfied == t.exclude {
			return false, nil
		}
	}
	return true, nil
}

// satisfies reports whether a connected registry satisfies a term that names no image.
func (m matcher) satisfies(v *Standing, t term) bool {
	switch t.key {
	case "name":
		return t.hasText(v.Name)
	case "parent":
		for i, r := range v.above() {
			if (i == 0 || m.sees == nil || m.sees(r.Name)) && t.hasText(r.Name) { // each answer has the first
				return true
			}
		}
		return false
	case "state":
		return t.hasText(v.State)
	case "reason":
		return t.hasText(v.Reason) || slices.ContainsFunc(v.Problems, t.hasText)
	case "mode":
		return t.hasText(v.registry.Settings.Mode)
	case "behind":
		return !v.Since.IsZero() && t.compares(int64(m.now.Sub(v.Since)))
	case "heard":
		return !v.Heard.IsZero() && t.compares(int64(m.now.Sub(v.Heard)))
	case "items":
		return t.compares(int64(v.ItemsToGo()))
	case "bytes":
		return t.compares(v.BytesToGo())
	case "version":
		version := v.report.Status.Version
		if t.op == ":" {
			return t.hasText(version)
		}
		order, ok := subscription.CompareVersions(version, t.values[0])
		return ok && t.holds(order)
	}
	value, ok := v.registry.Settings.Labels[t.key]
	return ok && t.hasText(value)
}

// hasText reports whether one of the term's patterns matches a text.
func (t term) hasText(text string) bool {
	return slices.ContainsFunc(t.values, func(pattern string) bool { return glob(pattern, text) })
}

// compares reports whether an amount satisfies the term's comparison.
func (t term) compares(amount int64) bool {
	switch {
	case amount < t.amount:
		return t.holds(-1)
	case amount > t.amount:
		return t.holds(1)
	}
	return t.holds(0)
}

// holds reports whether the term's operator holds for the order of two values.
func (t term) holds(order int) bool {
	switch t.op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// glob reports whether a pattern, in which * is any text, matches a text. Case is ignored.
func glob(pattern, text string) bool {
	pattern, text = strings.ToLower(pattern), strings.ToLower(text)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	last := len(parts) - 1
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1:last] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return strings.HasSuffix(text, parts[last])
}

// An imageRef names an image: by its tag, or by its digest.
type imageRef struct {
	repository, tag, digest string
}

func (i imageRef) String() string {
	if i.digest != "" {
		return i.repository + "@" + i.digest
	}
	return i.repository + ":" + i.tag
}

// parseImageRef reads REPOSITORY:TAG or REPOSITORY@DIGEST.
func parseImageRef(text string) (i imageRef, err error) {
	name, digest, hasDigest := strings.Cut(text, "@")
	if i.repository = name; hasDigest {
		d, err := oci.ParseDigest(digest)
		if err != nil {
			return i, fmt.Errorf("'%s' is not a digest", digest)
		}
		i.digest = string(d)
	} else if at := strings.LastIndex(name, ":"); at > 0 {
		i.repository, i.tag = name[:at], name[at+1:]
		if oci.CheckTag(i.tag) != nil {
			return i, fmt.Errorf("'%s' is not a tag", i.tag)
		}
	} else {
		return i, fmt.Errorf("'%s' is not an image: want REPOSITORY:TAG or REPOSITORY@DIGEST", text)
	}
	if oci.CheckRepository(i.repository) != nil {
		return i, fmt.Errorf("'%s' is not the name of a repository", i.repository)
	}
	return i, nil
}
