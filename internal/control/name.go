package control

import (
	"regexp"
)

var (
	// A user's name in HTTP Basic has no colon; a path's segment is neither
	// "." nor "..".
	tokenName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	scopeMapName = tokenName
	mirrorName   = tokenName
)

func checkTokenName(name string) error {
	if !tokenName.MatchString(name) {
		return Invalid("'%.100s' is no name for a token: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}

func checkScopeMapName(name string) error {
	if !scopeMapName.MatchString(name) {
		return Invalid("'%.100s' is no name for a scope map: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}

func checkMirrorName(name string) error {
	if !mirrorName.MatchString(name) {
		return Invalid("'%.100s' is no name for a mirror rule: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}
