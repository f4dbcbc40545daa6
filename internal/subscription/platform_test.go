package subscription

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

// child returns a descriptor for a platform such as linux/arm/v7; "-" has no platform, and
// ">x" is an attestation of the child x. The digest depends on the text.
func child(text string) v1.Descriptor {
	d := v1.Descriptor{Digest: digest.FromString(text)}
	if of, ok := strings.CutPrefix(text, ">"); ok {
		d.Annotations = map[string]string{
			"vnd.docker.reference.type":   "attestation-manifest",
			"vnd.docker.reference.digest": string(digest.FromString(of)),
		}
		text = "unknown/unknown"
	}
	if parts := append(strings.Split(text, "/"), ""); len(parts) > 2 {
		d.Platform = &v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	}
	return d
}

func TestIndexKeepsImagesThatWantedPlatformsChoose(t *testing.T) {
	for _, test := range []struct{ wanted, kept, omitted string }{
		{"linux/amd64", "linux/amd64", "linux/arm64 windows/amd64 linux/arm/v7"},
		{"linux/amd64 linux/arm64/v8", "linux/amd64 linux/arm64", "linux/s390x"},
		{"linux/arm64", "linux/arm64 linux/arm64/v8 linux/arm64/v9", "linux/arm/v7"},
		{"linux/aarch64", "linux/arm64/v8", "linux/amd64"},
		{"linux/amd64", "linux/x86_64 linux/amd64/v3 linux/amd64", "linux/386"},
		{"linux/amd64/v2", "linux/amd64/v2", "linux/amd64 linux/amd64/v3"},
		{"linux/amd64/v3", "linux/amd64", "linux/amd64/v4"},
		{"linux/arm", "linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm", "linux/arm64"},
		{"linux/arm/v7", "linux/arm/v7", "linux/arm/v5 linux/arm/v6"},
		{"linux/arm/v7", "linux/arm", "linux/arm/v6"},
		{"linux/arm/v7", "linux/arm/v6", "linux/arm/v5 linux/arm/v8"},
		{"linux/arm/v6", "", "linux/arm/v7 linux/arm"},
		{"linux/ppc64le/power9", "linux/ppc64le/power9", "linux/ppc64le linux/ppc64le/power10"},
		{"linux/amd64", "- unknown/unknown linux/amd64", "linux/arm64"},
		{"linux/amd64", "linux/amd64 >linux/amd64 >elsewhere", "linux/arm64 >linux/arm64"},
		{"windows/amd64", "", "linux/amd64 >linux/amd64"},
	} {
		t.Run(test.wanted+" of "+test.kept+" "+test.omitted, func(t *testing.T) {
			p, err := ParsePlatforms(strings.Fields(test.wanted))
			if err != nil {
				t.Fatal(err)
			}
			var children []v1.Descriptor
			for _, text := range strings.Fields(test.omitted + " " + test.kept) {
				children = append(children, child(text))
			}
			omitted := p.Omitted(children)
			for _, text := range strings.Fields(test.kept) {
				if omitted[child(text).Digest] {
					t.Errorf("%s is omitted", text)
				}
			}
			for _, text := range strings.Fields(test.omitted) {
				if !omitted[child(text).Digest] {
					t.Errorf("%s is kept", text)
				}
			}
		})
	}
}

func TestChildForTwoPlatformsIsKeptForEither(t *testing.T) {
	p, err := ParsePlatforms([]string{"linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	both := []v1.Descriptor{child("linux/amd64"), child("linux/386")}
	both[1].Digest = both[0].Digest
	if omitted := p.Omitted(both); len(omitted) != 0 {
		t.Errorf("Omitted = %v", omitted)
	}
}

func TestNoPlatformMeansEveryPlatform(t *testing.T) {
	p, err := ParsePlatforms(nil)
	if err != nil || !p.All() || len(p.Omitted([]v1.Descriptor{child("linux/s390x")})) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestMalformedPlatformsAreRefused(t *testing.T) {
	for _, text := range []string{"", "linux", "/amd64", "linux/", "linux/arm/", "linux/arm/v7/x", "linux/adm64",
		"linus/amd64", "linux/ amd64", "linux/386 amd64", "linux/arm/v 7",
		"linux/arm/" + strings.Repeat("v", maxPlatformLength)} {
		if _, err := ParsePlatforms([]string{text}); err == nil || !strings.Contains(err.Error(), "platform ") {
			t.Errorf("ParsePlatforms(%.30q) = %v, want an error that names it", text, err)
		}
	}
	if _, err := ParsePlatforms(make([]string, maxPlatforms+1)); err == nil {
		t.Error("too many platforms are not refused")
	}
}

func TestMorePlatformsNeverOmitMore(t *testing.T) {
	platform := rapid.Custom(func(r *rapid.T) string {
		os := rapid.SampledFrom([]string{"linux", "windows"}).Draw(r, "os")
		arch := rapid.SampledFrom([]string{"amd64", "arm", "arm64", "s390x"}).Draw(r, "architecture")
		return os + "/" + arch + rapid.SampledFrom([]string{"", "/v5", "/v7", "/v8", "/8.1", "/odd"}).Draw(r, "variant")
	})
	rapid.Check(t, func(r *rapid.T) {
		wanted := rapid.SliceOfN(platform, 1, 4).Draw(r, "wanted")
		var children []v1.Descriptor
		for _, text := range rapid.SliceOfN(platform, 0, 8).Draw(r, "children") {
			children = append(children, child(text), child(">"+text))
		}
		var before map[digest.Digest]bool
		for n := 1; n <= len(wanted); n++ {
			p, err := ParsePlatforms(wanted[:n])
			if err != nil {
				r.Fatal(err)
			}
			omitted := p.Omitted(children)
			for d := range omitted {
				if before != nil && !before[d] {
					r.Fatalf("with %s, more is omitted", wanted[n-1])
				}
			}
			for i := 0; i < len(children); i += 2 {
				if omitted[children[i].Digest] != omitted[children[i+1].Digest] {
					r.Fatalf("an attestation is omitted without its image, or kept without it")
				}
			}
			before = omitted
		}
	})
}

func FuzzPlatform(f *testing.F) {
	f.Add("linux/arm/v7", "linux", "arm", "v6")
	f.Add("Linux/x86_64", "linux", "amd64", "")
	f.Add("linux/arm64/8.2", "linux", "aarch64", "v8")
	f.Fuzz(func(t *testing.T, wanted, os, arch, variant string) {
		p, err := ParsePlatforms([]string{wanted})
		if err != nil {
			return
		}
		d := child(wanted)
		other := v1.Descriptor{Digest: digest.FromString("other"),
			Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}
		if p.Omitted([]v1.Descriptor{other, d})[d.Digest] {
			t.Errorf("%q is omitted beside %s/%s/%s although it is wanted", wanted, os, arch, variant)
		}
	})
}
