package subscription

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// A version is a tag that is a semantic version. A leading v is ignored, and missing parts are
// 0: v1.2 is 1.2.0. Build metadata is ignored, too, after a plus sign or after the underscore
// that Helm writes instead, because a tag cannot contain a plus sign.
type version struct {
	numbers    [3]uint64
	parts      int    // how many numbers the tag has
	prerelease string // "" is none
}

// maxDigits limits each number to 64 bits.
const maxDigits = 18

func parseVersion(text string) (v version, ok bool) {
	text = strings.TrimPrefix(text, "v")
	if build := strings.IndexAny(text, "+_"); build >= 0 {
		text = text[:build]
	}
	core, prerelease, has := strings.Cut(text, "-")
	if has && prerelease == "" {
		return v, false
	}
	v.prerelease = prerelease
	for part := range strings.SplitSeq(core, ".") {
		if v.parts == 3 || part == "" || len(part) > maxDigits {
			return v, false
		}
		var n uint64
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return v, false
			}
			n = n*10 + uint64(c-'0')
		}
		v.numbers[v.parts] = n
		v.parts++
	}
	return v, true
}

// compare orders versions as semver.org does in its section 11.
func (v version) compare(o version) int {
	for i, n := range v.numbers {
		if c := cmp.Compare(n, o.numbers[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.prerelease == o.prerelease:
		return 0
	case v.prerelease == "":
		return 1
	case o.prerelease == "":
		return -1
	}
	a, b := strings.Split(v.prerelease, "."), strings.Split(o.prerelease, ".")
	for i := range min(len(a), len(b)) {
		if c := compareIdentifiers(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// CompareVersions orders two semantic versions, each with or without a leading v. It returns false
// unless both are versions.
func CompareVersions(a, b string) (order int, ok bool) {
	x, okX := parseVersion(a)
	y, okY := parseVersion(b)
	return x.compare(y), okX && okY
}

// compareIdentifiers orders numbers by value, and before words, which it orders as strings.
func compareIdentifiers(a, b string) int {
	x, y := isNumber(a), isNumber(b)
	switch {
	case x && y:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case x != y:
		if x {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// after returns the lowest version above all versions that begin with the first n numbers of
// v.
func (v version) after(n int) version {
	next := version{parts: 3}
	copy(next.numbers[:n], v.numbers[:n])
	next.numbers[n-1]++
	return next
}

// A bound is one comparison.
type bound struct {
	op string // one of < <= > >= =
	version
}

// A versionRange matches if all bounds of one of its alternatives hold.
type versionRange [][]bound

// parseRange reads ranges such as ">=1.2 <2", "^1.4 || ~2.1.0" and ">1, <=3". A caret allows
// higher versions with the same first number that is not zero; a tilde, with the same first
// two numbers, as far as they are written. A missing number matches any: "=1.2" matches 1.2.0,
// 1.2.9 and so on.
func parseRange(text string) (versionRange, error) {
	var r versionRange
	for alternative := range strings.SplitSeq(text, "||") {
		var all []bound
		fields := strings.FieldsFunc(alternative, func(c rune) bool { return c == ' ' || c == ',' })
		for i := 0; i < len(fields); i++ {
			field := fields[i]
			op := field[:len(field)-len(strings.TrimLeft(field, "<>=~^"))]
			if len(op) == len(field) && i+1 < len(fields) { // a space between the two
				i++
				field += fields[i]
			}
			v, ok := parseVersion(field[len(op):])
			if !ok {
				return nil, fmt.Errorf("%.50q is not a version", field[len(op):])
			}
			bounds, err := boundsOf(op, v)
			if err != nil {
				return nil, err
			}
			all = append(all, bounds...)
		}
		if len(all) == 0 {
			return nil, errors.New("a range is empty")
		}
		r = append(r, all)
	}
	return r, nil
}

func boundsOf(op string, v version) ([]bound, error) {
	switch op {
	case "<", ">=":
		return []bound{{op, v}}, nil
	case ">", "<=":
		if v.parts < 3 && v.prerelease == "" { // >1.2 excludes all of 1.2
			return []bound{{map[string]string{">": ">=", "<=": "<"}[op], v.after(v.parts)}}, nil
		}
		return []bound{{op, v}}, nil
	case "", "=":
		if v.parts < 3 && v.prerelease == "" {
			return []bound{{">=", v}, {"<", v.after(v.parts)}}, nil
		}
		return []bound{{"=", v}}, nil
	case "~":
		return []bound{{">=", v}, {"<", v.after(min(v.parts, 2))}}, nil
	case "^":
		n := 1
		for n < v.parts && v.numbers[n-1] == 0 {
			n++
		}
		return []bound{{">=", v}, {"<", v.after(n)}}, nil
	}
	return nil, fmt.Errorf("%q is not a comparison: want one of < <= > >= = ~ ^", op)
}

// matches reports whether a tag is a version in the range. A prerelease matches only if a
// bound is a prerelease of the same three numbers.
func (r versionRange) matches(tag string) bool {
	v, ok := parseVersion(tag)
	if !ok {
		return false
	}
	for _, all := range r {
		in, named := true, v.prerelease == ""
		for _, b := range all {
			in = in && b.holds(v)
			named = named || b.prerelease != "" && b.numbers == v.numbers
		}
		if in && named {
			return true
		}
	}
	return false
}

func (b bound) holds(v version) bool {
	c := v.compare(b.version)
	switch b.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	}
	return c == 0
}
