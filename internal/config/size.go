package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are the units of sizes, the longest names first.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize parses a number of bytes: digits, and optionally one of B, kB, MB, GB, TB
// (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), in any case, with or without a
// space between them.
func ParseSize(s string) (int64, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, factor = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || strings.HasPrefix(number, "+") {
		return 0, fmt.Errorf("%.80q is not a size: want a number of bytes, such as 1048576, 512KiB or 1MiB", s)
	}
	if int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("%.80q is too large a size", s)
	}
	return int64(n) * factor, nil
}

// FormatSize formats a size for [ParseSize], in the largest power of 1024 that divides it.
func FormatSize(n int64) string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// SizeText formats a size for people, with one decimal.
func SizeText(n int64) string {
	names := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(names)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, names[i])
}
