package noderuntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v4"
)

// errEdited says that a file was changed since in a way that cannot be told apart from the
// change to undo.
var errEdited = errors.New("it was edited where Ferry's lines are")

// undone returns the file of an entry without Ferry's changes, given the file as it is. If
// somebody changed it since, these changes are kept, and edited is true. With an error,
// Ferry's lines cannot be removed.
func (e *entry) undone(now *snapshot) (s *snapshot, edited bool, err error) {
	for _, g := range slices.Backward(e.Generations) {
		if now.sameContent(g.Ours) {
			return g.Before, false, nil
		}
	}
	for _, g := range slices.Backward(e.Generations) {
		if now.sameContent(g.Before) {
			return now, !now.same(g.Before), nil
		}
	}
	if now == nil || now.Link != "" {
		return now, true, nil // somebody removed it, or put a link in its place
	}
	for _, g := range slices.Backward(e.Generations) {
		if g.Ours == nil || g.Ours.Link != "" || g.Before != nil && g.Before.Link != "" {
			continue
		}
		var before []byte
		if g.Before != nil {
			before = g.Before.text
		}
		text, ok := reverse(g.Ours.text, before, now.text)
		for _, name := range e.Hosts {
			if ok && !bytes.Contains(before, []byte(name)) {
				if filepath.Base(e.Path) == "hosts.toml" {
					text, ok = removeHost(text, name)
				}
				ok = ok && !bytes.Contains(text, []byte(name))
			}
		}
		if !ok || checkSyntax(e.Path, text) != nil {
			continue
		}
		if g.Before == nil && isBlank(text) {
			return nil, true, nil
		}
		return now.with(text), true, nil
	}
	return now, true, errEdited
}

// isBlank reports whether a file has nothing but comments.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// checkSyntax returns an error if a file of that name has a broken syntax.
func checkSyntax(name string, text []byte) error {
	var any map[string]any
	switch filepath.Ext(name) {
	case ".toml", ".conf":
		return toml.Unmarshal(text, &any)
	case ".yaml":
		return yaml.Unmarshal(text, &any)
	case ".json":
		if len(text) > 0 {
			return json.Unmarshal(text, &any)
		}
	}
	return nil
}

// reverse undoes the change from before to ours in a later version of the file: it removes
// the lines that the change inserted, and inserts the lines that it removed. It keeps all
// other changes. It fails if lines that the change replaced were edited since.
func reverse(ours, before, now []byte) (text []byte, ok bool) {
	oursLines, beforeLines, nowLines := lines(ours), lines(before), lines(now)
	toBefore, toNow := match(oursLines, beforeLines), match(oursLines, nowLines)
	var out []string
	i, j, k := 0, 0, 0 // the next lines of ours, before and now
	insert := func(end int) {
		out = append(out, nowLines[k:end]...)
		k = end
	}
	for i < len(oursLines) || j < len(beforeLines) {
		if i < len(oursLines) && toBefore[i] == j && j < len(beforeLines) { // a line that the change left
			if toNow[i] >= 0 {
				insert(toNow[i] + 1)
			}
			i, j = i+1, j+1
			continue
		}
		// A part that the change replaced: ours[i:endOurs] stands for before[j:endBefore].
		endOurs := i
		for endOurs < len(oursLines) && toBefore[endOurs] < 0 {
			endOurs++
		}
		endBefore := len(beforeLines)
		if endOurs < len(oursLines) {
			endBefore = toBefore[endOurs]
		}
		whole, at := true, -1 // at is the line of now where the part begins
		for ; i < endOurs; i++ {
			if toNow[i] < 0 {
				whole = false
				continue
			}
			insert(toNow[i])
			k++ // leave ours out
			if at < 0 {
				at = len(out)
			}
		}
		if endBefore > j {
			if !whole || at < 0 && endOurs > 0 && toNow[endOurs-1] < 0 {
				return nil, false
			}
			if at < 0 {
				at = len(out)
			}
			out = slices.Insert(out, at, beforeLines[j:endBefore]...)
			j = endBefore
		}
	}
	insert(len(nowLines))
	return []byte(strings.Join(out, "")), true
}

func lines(text []byte) []string { return slices.Collect(strings.Lines(string(text))) }

// maxMatch bounds the memory of [match]: it is the product of the numbers of lines.
const maxMatch = 4 << 20

// match returns for each line of a the line of b that it is, or -1: a longest common
// subsequence. Files that are too long for that have no lines in common.
func match(a, b []string) []int {
	if len(a)*len(b) > maxMatch {
		return slices.Repeat([]int{-1}, len(a))
	}
	length := make([][]int, len(a)+1) // of the subsequence of a[i:] and b[j:]
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	matched := make([]int, len(a))
	for i, j := 0, 0; i < len(a); i++ {
		matched[i] = -1
		for j < len(b) && a[i] != b[j] && length[i][j] == length[i][j+1] {
			j++
		}
		if j < len(b) && a[i] == b[j] {
			matched[i] = j
			j++
		}
	}
	return matched
}
