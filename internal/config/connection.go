package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxConnections bounds [Config.MaxConnections].
const maxConnections = 1 << 20

// parseConnections parses a number of connections; auto is 0.
func parseConnections(text string) (int, error) {
	if text == "auto" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxConnections {
		return 0, fmt.Errorf("%.80q: want auto, or a number from 1 to %d", text, maxConnections)
	}
	return n, nil
}

func connectionsText(n int) string {
	if n == 0 {
		return "auto"
	}
	return strconv.Itoa(n)
}

// ParseProxies parses addresses and networks, separated by commas or spaces.
func ParseProxies(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(part)
		if a, addrErr := netip.ParseAddr(part); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil {
			return nil, errors.New("want addresses and networks, such as 10.0.0.0/8,192.0.2.7,::1")
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
