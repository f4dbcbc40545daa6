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
	maxPlatforms      = 20 // per list
	maxPlatformLength = 64 // in bytes
)

// Platforms are the platforms whose images a connected registry gets. The zero value is every
// platform.
type Platforms struct {
	wanted []platform
}

// A platform is an operating system and an architecture, by Go's names.
type platform struct{ os, arch, variant string }

// The names that Go, and therefore the image specification, knows. Any other name is a
// mistake that would select nothing.
const (
	systems = " aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasi wasip1" +
		" wasip2 windows "
	architectures = " 386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x sparc64" +
		" wasm "
)

// ParsePlatforms reads platforms such as linux/amd64 and linux/arm/v7. An empty list is every
// platform.
func ParsePlatforms(texts []string) (Platforms, error) {
	wanted, err := parseAll("platform", "platforms", maxPlatforms, texts, parsePlatform)
	return Platforms{wanted}, err
}

func parsePlatform(text string) (platform, error) {
	parts := strings.Split(text, "/")
	if len(text) > maxPlatformLength || len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return platform{}, errors.New(
			"want OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7")
	}
	p := platform{os: parts[0], arch: parts[1]}
	if len(parts) == 3 {
		p.variant = parts[2]
	}
	p = p.normalize()
	switch {
	case !isWord(p.os, systems):
		return p, fmt.Errorf("%q is not an operating system: want one of%s", p.os, systems[:len(systems)-1])
	case !isWord(p.arch, architectures):
		return p, fmt.Errorf("%q is not an architecture: want one of%s", p.arch, architectures[:len(architectures)-1])
	case strings.Trim(p.variant, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "":
		return p, fmt.Errorf("%q is not a variant: want one such as v7", p.variant)
	}
	return p, nil
}

func isWord(s, list string) bool {
	return !strings.Contains(s, " ") && strings.Contains(list, " "+s+" ")
}

// normalize returns the platform with Go's names.
func (p platform) normalize() platform {
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

// level returns the number of a variant: a machine also runs images of lower levels. Without a
// variant, it is the usual one of the architecture.
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

// Omitted returns the children of an index that are only for unwanted platforms. Children
// without a platform, and indexes within the index, are wanted; an attestation is wanted if
// its image is.
//
// A wanted platform with a variant selects the image that a machine of that variant would
// choose: that variant or, if the index lacks it, the next lower one. A wanted platform
// without a variant selects all variants.
func (p Platforms) Omitted(children []v1.Descriptor) map[digest.Digest]bool {
	if p.All() {
		return nil
	}
	omitted := map[digest.Digest]bool{}
	keep := make([]bool, len(children))
	for _, want := range p.wanted {
		want.choose(children, keep)
	}
	for i, child := range children {
		if _, ok := platformOf(child); ok && !keep[i] {
			omitted[child.Digest] = true
		}
	}
	for i, child := range children { // a child may be listed for several platforms
		if keep[i] {
			delete(omitted, child.Digest)
		}
	}
	for _, child := range children {
		if _, ok := platformOf(child); !ok && omitted[attestationSubject(child)] {
			omitted[child.Digest] = true
		}
	}
	return omitted
}

// choose marks in keep the children that a machine of the platform would choose.
func (p platform) choose(children []v1.Descriptor, keep []bool) {
	limit, ranked := p.level()
	best := -1.0
	each := func(do func(i int, of platform)) {
		for i, child := range children {
			if of, ok := platformOf(child); ok && of.os == p.os && of.arch == p.arch {
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

// platformOf returns the platform of a child, if it has a known one.
func platformOf(child v1.Descriptor) (p platform, ok bool) {
	if child.Platform == nil {
		return p, false
	}
	p = platform{child.Platform.OS, child.Platform.Architecture, child.Platform.Variant}.normalize()
	return p, isKnown(p.os) && isKnown(p.arch)
}

func isKnown(name string) bool { return name != "" && name != "unknown" }

// attestationSubject returns the image of an attestation that BuildKit adds to an index; "" if
// the child is no attestation.
func attestationSubject(child v1.Descriptor) digest.Digest {
	if child.Annotations["vnd.docker.reference.type"] == "" {
		return ""
	}
	return digest.Digest(child.Annotations["vnd.docker.reference.digest"])
}
