package connected_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// index stores an index of images for platforms, with an attestation of each.
func (s *instance) index(repository, tag string, platforms map[string]digest.Digest) digest.Digest {
	s.T.Helper()
	index := storagetest.Index()
	for platform, d := range platforms {
		attestation := storagetest.ReferenceFor("unknown/unknown",
			s.push(repository, "attestation of "+platform, "", 10))
		attestation.Annotations = map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": string(d),
		}
		index.Manifests = append(index.Manifests, storagetest.ReferenceFor(platform, d), attestation)
	}
	return s.Push(repository, index, tag).Digest
}

// has reports whether s has manifests, and no others, in a repository.
func (s *instance) has(repository string, want ...digest.Digest) bool {
	all, err := s.Storage.Manifests(s.T.Context(), repository, storage.ManifestOrder{}, "", 100)
	if err != nil && !errors.Is(err, oci.ErrNameUnknown) {
		s.T.Fatal(err)
	}
	for _, d := range want {
		if !s.serves(repository, string(d), d) {
			return false
		}
	}
	return len(all) == len(want)
}

func TestPlatformsLimitIndexesAtEveryLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		images := map[string]digest.Digest{}
		for _, platform := range []string{"linux/amd64", "linux/arm64", "windows/amd64"} {
			images[platform] = root.push("app/a", platform, "", 3000)
		}
		index := root.index("app/a", "v1", images)
		single := root.push("app/b", "single", "v1", 10)
		attestation := func(platform string) digest.Digest {
			return root.push("app/a", "attestation of "+platform, "",
				10)
		}
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"app/*"},
				Settings: api.Settings{Platforms: []string{"linux/amd64"}}})
		cabin := root.connectedRegistry("cabin1", api.RegistryPut{Parent: "ship1"})
		ship, below := root.child("ship1"), root.child("cabin1")
		root.start(ship, c)
		ship.awaitTag("app/a", "v1", index)
		ship.start(below, cabin)
		both := func(platforms ...string) {
			t.Helper()
			want := []digest.Digest{index}
			for _, p := range platforms {
				want = append(want, images[p], attestation(p))
			}
			for _, s := range []*instance{ship, below} {
				await(t, fmt.Sprintf("%s has only %v", s.name, platforms),
					func() bool { return s.has("app/a", want...) })
				s.awaitTag("app/a", "v1", index)
				s.awaitTag("app/b", "v1", single)
			}
		}
		update := func(platforms ...string) {
			t.Helper()
			root.update("ship1", api.Settings{Platforms: append([]string{}, platforms...)})
		}
		both("linux/amd64")
		update("linux/amd64", "linux/arm64/v8")
		both("linux/amd64", "linux/arm64")
		update("windows/amd64")
		both("windows/amd64")
		update("linux/s390x") // for which there is no image
		both()
		if ship.log.count("nothing for this registry's platforms") == 0 {
			t.Error("nobody says that there is nothing")
		}
		update()
		both("linux/amd64", "linux/arm64", "windows/amd64")
		text, err := json.Marshal(ship.agent.Status().Details)
		if err != nil || ship.agent.Status().ItemsFailed > 0 {
			t.Errorf("the site is not well: %s, %v", text, err)
		}
	})
}
