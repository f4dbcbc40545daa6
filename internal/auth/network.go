package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxNetworks is the maximum number of networks of a scope map.
const MaxNetworks = 32

// maxNetwork is the maximum length of a network in text, in bytes.
const maxNetwork = len("1111:2222:3333:4444:5555:6666:255.255.255.255/128")

// ParseNetworks parses networks such as 10.0.0.0/8, and addresses, and returns them in order
// without duplicates. An address with bits beyond the length of its network is an error, because
// its author may have meant the address only.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	if len(texts) > MaxNetworks {
		return nil, fmt.Errorf("there are %d networks: at most %d are allowed", len(texts), MaxNetworks)
	}
	var all []netip.Prefix
	for _, text := range texts {
		p, err := parseNetwork(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all), nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	bad := fmt.Errorf("network %.60q: want one such as 10.0.0.0/8, or an address", text)
	if len(text) > maxNetwork {
		return netip.Prefix{}, bad
	}
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, bad
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, bad
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("network %.60q: want it in the form of IPv4, such as 10.0.0.0/8", text)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("network %.60q: want the whole network, %s, or one address, %s", text,
			p.Masked(), p.Addr())
	}
	return p, nil
}

// NetworkTexts returns networks in the form that [ParseNetworks] reads.
func NetworkTexts(networks []netip.Prefix) []string {
	var all []string
	for _, p := range networks {
		all = append(all, p.String())
	}
	return all
}

// IsEverywhere reports whether a network has every address of its kind.
func IsEverywhere(p netip.Prefix) bool { return p.Bits() == 0 }
