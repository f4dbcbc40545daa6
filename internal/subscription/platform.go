package subscription

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on platforms.
const (
	maxPlatforms      = 20 // how many there are
	maxPlatformLength = 64 // how long one is, in bytes
)

// Platforms are those for which images go to a connected registry. The zero
// value is every platform.
type Platforms struct {
	wanted []platform
}

// A platform is what an image runs on, in Go's words.
type platform struct{ os, arch, variant string }

// What Go, and so the image specification, knows. A name that is not among
// these is a slip, which would leave out everything.
const (
	systems       = " aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasi wasip1 wasip2 windows "
	architectures = " 386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x sparc64 wasm "
)

// ParsePlatforms reads platforms as linux/amd64 and linux/arm/v7; none is
// every platform.
func ParsePlatforms(texts []string) (Platforms, error) {
	wanted, err := parseAll("platform", "platforms", maxPlatforms, texts, parsePlatform)
	return Platforms{wanted}, err
}

func parsePlatform(text string) (platform, error) {
	parts := strings.Split(text, "/")
	if len(text) > maxPlatformLength || len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return platform{}, errors.New("want OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as linux/amd64 or linux/arm/v7")
	}
	p := platform{os: parts[0], arch: parts[1]}
	if len(parts) == 3 {
		p.variant = parts[2]
	}
	p = p.normal()
	switch {
	case !isWord(p.os, systems):
		return p, fmt.Errorf("%q is no operating system: want one of%s", p.os, systems[:len(systems)-1])
	case !isWord(p.arch, architectures):
		return p, fmt.Errorf("%q is no architecture: want one of%s", p.arch, architectures[:len(architectures)-1])
	case strings.Trim(p.variant, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "":
		return p, fmt.Errorf("%q is no variant: want one as v7", p.variant)
	}
	return p, nil
}

func isWord(s, list string) bool {
	return !strings.Contains(s, " ") && strings.Contains(list, " "+s+" ")
}

// normal spells a platform as Go does.
func (p platform) normal() platform {
	p = platform{strings.ToLower(p.os), strings.ToLower(p.arch), strings.ToLower(p.variant)}
	switch p.arch {
	case "x86_64", "x86-64":
		p.arch = "amd64"
	case "aarch64":
		p.arch = "arm64"
	case "i386":
		p.arch = "386"
	}
	if p.os == "macos" {
		p.os = "darwin"
	}
	return p
}

// level returns the number of a variant, with which a machine also runs what
// is for a lower one; of an image that names none, its architecture's usual.
func (p platform) level() (level float64, ok bool) {
	usual := map[string]string{"arm": "7", "arm64": "8", "amd64": "1"}[p.arch]
	if usual == "" {
		return 0, false
	}
	text := strings.TrimPrefix(p.variant, "v")
	if text == "" {
		text = usual
	}
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	level, err := strconv.ParseFloat(text, 64)
	return level, err == nil
}

// All reports whether every platform is wanted.
func (p Platforms) All() bool { return len(p.wanted) == 0 }

// LeftOut returns which of an index's children are for platforms that are not
// wanted. What is for no platform in particular is wanted, as are indexes
// within the index; an attestation is where what it is of is.
//
// Of the variants of an architecture, a platform that names one gets what a
// machine of that variant would choose: that variant or, where the index has
// none, the next lower one. A platform that names none gets all.
func (p Platforms) Omitted(children []v1.Descriptor) map[digest.Digest]bool {
	if p.All() {
		return nil
	}
	left := map[digest.Digest]bool{}
	keep := make([]bool, len(children))
	for _, want := range p.wanted {
		want.choose(children, keep)
	}
	for i, child := range children {
		if _, placed := platformOf(child); placed && !keep[i] {
			left[child.Digest] = true
		}
	}
	for i, child := range children { // that is there twice, for different ones
		if keep[i] {
			delete(left, child.Digest)
		}
	}
	for _, child := range children {
		if _, placed := platformOf(child); !placed && left[attested(child)] {
			left[child.Digest] = true
		}
	}
	return left
}

// choose marks the children that a machine of the platform would have.
func (p platform) choose(children []v1.Descriptor, keep []bool) {
	limit, ranked := p.level()
	best := -1.0
	each := func(do func(i int, of platform)) {
		for i, child := range children {
			if of, placed := platformOf(child); placed && of.os == p.os && of.arch == p.arch {
				do(i, of)
			}
		}
	}
	each(func(_ int, of platform) {
		if level, ok := of.level(); ok && ranked && level <= limit {
			best = max(best, level)
		}
	})
	each(func(i int, of platform) {
		level, ok := of.level()
		if p.variant == "" || of.variant == p.variant || ok && ranked && level == best {
			keep[i] = true
		}
	})
}

// platformOf returns what a child is for, where that is said.
func platformOf(child v1.Descriptor) (p platform, placed bool) {
	if child.Platform == nil {
		return p, false
	}
	p = platform{child.Platform.OS, child.Platform.Architecture, child.Platform.Variant}.normal()
	return p, isKnown(p.os) && isKnown(p.arch)
}

func isKnown(name string) bool { return name != "" && name != "unknown" }

// attested returns what a child is an attestation of, as BuildKit adds them
// to an index; "" where it is none.
func attested(child v1.Descriptor) digest.Digest {
	if child.Annotations["vnd.docker.reference.type"] == "" {
		return ""
	}
	return digest.Digest(child.Annotations["vnd.docker.reference.digest"])
}
