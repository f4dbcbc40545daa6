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
	// The reference has 5 to 40 in one place and 5 to 50 in another.
	registryName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{4,49}$`)
)

func checkTokenName(name string) error {
	if !tokenName.MatchString(name) {
		return invalid("'%.100s' is no name for a token: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}

func checkScopeMapName(name string) error {
	if !scopeMapName.MatchString(name) {
		return invalid("'%.100s' is no name for a scope map: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}

func checkRegistryName(name string) error {
	if !registryName.MatchString(name) {
		return invalid("'%.100s' is no name for a connected registry: want 5 to 50 letters, digits, '_' or '-', beginning with a letter", name)
	}
	return nil
}

func checkMirrorName(name string) error {
	if !mirrorName.MatchString(name) {
		return invalid("'%.100s' is no name for a mirror rule: want 1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}
