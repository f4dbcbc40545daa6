package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// hostName matches a DNS name, which may begin with a wildcard.
var hostName = regexp.MustCompile(
	`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$`)

// ParseNames parses names and addresses for a certificate, separated by commas or spaces.
func ParseNames(text string) ([]string, error) {
	var names []string
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !IsName(name) {
			return nil, fmt.Errorf("%.80q: want names and addresses without ports, such as registry.example,10.1.1.1",
				name)
		}
		names = append(names, name)
	}
	return names, nil
}

// IsName reports whether a certificate can be for a name or an address.
func IsName(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Zone() == ""
	}
	return len(name) <= 253 && hostName.MatchString(name)
}
