package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

const plain = `{"schemaVersion":2,"mediaType":"` + MediaTypeImageManifest +
	`","config":{"mediaType":"x/config","digest":"` + sha256 + `","size":2},"layers":[]}`

func TestManifestReferencesAreParsed(t *testing.T) {
	foreign := digest.FromString("foreign")
	text := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/config","digest":%q,"size":2},"layers":[
		{"mediaType":"x/layer","digest":%[2]q,"size":3},{"mediaType":"x/layer","digest":%[2]q,"size":3},
		{"digest":%[1]q,"size":2},
		{"mediaType":"x/foreign","digest":%[3]q,"size":4,"urls":["https://example.com/x"]}],
		"subject":{"mediaType":"x/subject","digest":%[2]q,"size":9},"annotations":{"k":"v"},"unknown":{"a":[1]}}`,
		sha256, sha512, foreign)
	m, err := ParseManifest(MediaTypeDockerManifest+"; charset=utf-8", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var blobs []digest.Digest
	for _, b := range m.Blobs() {
		blobs = append(blobs, b.Digest)
		if MayBeAbsent(b) != (b.Digest == foreign) {
			t.Errorf("%s may be absent: %v", b.Digest, MayBeAbsent(b))
		}
	}
	if diff := cmp.Diff([]digest.Digest{sha256, sha512, foreign}, blobs); diff != "" {
		t.Error(diff)
	}
	if m.MediaType != MediaTypeDockerManifest || m.ArtifactType != "x/config" || m.Subject.Digest != sha512 ||
		m.Annotations["k"] != "v" || len(m.Layers) != 4 {
		t.Errorf("manifest %+v", m)
	}

	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"x/list","manifests":[
		{"mediaType":%q,"digest":%q,"size":1,"platform":{"os":"linux","architecture":"arm"}}]}`,
		MediaTypeImageIndex, MediaTypeImageManifest, sha256)
	m, err = ParseManifest("", []byte(index))
	if err != nil || len(m.Blobs()) != 0 || len(m.Manifests) != 1 || m.Manifests[0].Platform.OS != "linux" ||
		m.ArtifactType != "x/list" {
		t.Errorf("index %+v, %v", m, err)
	}
}

func TestIndexEntriesAreSplitByMediaType(t *testing.T) {
	index := `{"schemaVersion":2,"mediaType":"` + MediaTypeImageIndex + `","manifests":[
		{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + sha256 + `","size":1},
		{"mediaType":"` + MediaTypeDockerManifest + `","digest":"` + string(digest.FromString("child")) + `","size":2},
		{"digest":"` + string(digest.FromString("typeless")) + `","size":3},
		{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"` + sha512 + `","size":4}]}`
	m, err := ParseManifest("", []byte(index))
	if err != nil {
		t.Fatal(err)
	}
	sizes := func(all []Descriptor) (sizes []int64) {
		for _, d := range all {
			sizes = append(sizes, d.Size)
		}
		return sizes
	}
	if diff := cmp.Diff([][]int64{{2, 3}, {1, 4}, {1, 4}},
		[][]int64{sizes(m.Manifests), sizes(m.Layers), sizes(m.Blobs())}); diff != "" {
		t.Error(diff)
	}
}

func TestBlobForeignInOnlyOnePlaceIsRequired(t *testing.T) {
	layer := `{"mediaType":"x/layer","digest":"` + sha512 + `","size":3%s}`
	foreign := fmt.Sprintf(layer, `,"urls":["https://example.com/x"]`)
	for _, layers := range []string{foreign + "," + fmt.Sprintf(layer, ""), fmt.Sprintf(layer, "") + "," + foreign} {
		m, err := ParseManifest("", []byte(strings.Replace(plain, "[]", "["+layers+"]", 1)))
		if err != nil || len(m.Blobs()) != 2 || MayBeAbsent(m.Blobs()[1]) {
			t.Errorf("%+v, %v", m, err)
		}
	}
}

// encoding/json treats a field in another case as the same field.
func TestManifestWithAmbiguousFieldsIsRefused(t *testing.T) {
	config := `"config":{"mediaType":"x/config","digest":"` + sha256 + `","size":2}`
	other := strings.Replace(config, sha256, string(digest.FromString("other")), 1)
	child := `{"mediaType":"` + MediaTypeImageManifest + `","digest":"` + sha256 + `","size":1%s}`
	index := `{"schemaVersion":2,"mediaType":"` + MediaTypeImageIndex + `","manifests":[` + child + `]%s}`
	for name, text := range map[string]string{
		"config twice": strings.Replace(plain, config, config+","+other, 1),
		"config in another case, too": strings.Replace(plain, config,
			config+","+strings.Replace(other, "config", "CONFIG", 1), 1),
		"config in another case alone": strings.Replace(plain, `"config":`, `"Config":`, 1),
		"config with an escape": strings.Replace(plain, config,
			config+","+strings.Replace(other, "config", `\u0063onfig`, 1), 1),
		"a letter that folds to s": strings.Replace(plain, `"layers"`, "\"layer\u017F\":[],\"layers\"", 1),
		"mediaType twice": strings.Replace(plain, `"schemaVersion"`,
			`"mediaType":"`+MediaTypeImageManifest+`","schemaVersion"`, 1),
		"mediaType in another case": strings.Replace(plain, `"schemaVersion"`,
			`"mediatype":"`+MediaTypeImageManifest+`","schemaVersion"`, 1),
		"subject twice": strings.Replace(plain, `"layers"`,
			`"subject":`+fmt.Sprintf(child, "")+`,"subject":null,"layers"`, 1),
		"layers twice, null first": strings.Replace(plain, `"layers":[]`, `"layers":null,"layers":[]`, 1),
		"a digest twice in a layer": strings.Replace(plain, `[]`,
			`[{"digest":"`+sha512+`","digest":"`+sha256+`","size":1}]`, 1),
		"a size in another case": strings.Replace(plain, `"size":2`, `"size":2,"Size":3`, 1),
		"manifests twice":        fmt.Sprintf(index, "", `,"Manifests":[]`),
		"a child's type twice":   fmt.Sprintf(index, `,"mediaType":"x/y"`, ""),
		"a child's os twice": fmt.Sprintf(index,
			`,"platform":{"os":"linux","OS":"windows","architecture":"arm"}`, ""),
	} {
		if _, err := ParseManifest("", []byte(text)); !errors.Is(err, ErrManifestInvalid) {
			t.Errorf("%s: %v, want %v", name, err, ErrManifestInvalid)
		}
	}
	for name, text := range map[string]string{
		"spaces": strings.NewReplacer(",", " ,\n\t ", "[]", "[ ]", `":`, `" : `).Replace(plain),
		"names of users": strings.Replace(plain, `"layers"`,
			`"annotations":{"config":"a","Config":"\"b\\","CONFIG":"c}"},"layers"`, 1),
		"an unknown field": strings.Replace(plain, `"layers"`,
			`"x":{"size":1,"Size":[{"a":-1.5e3,"a":null}]},"X":true,"layers"`, 1),
		"the same elsewhere": fmt.Sprintf(index, `,"data":"AA==","artifactType":"x"`, `,"artifactType":"y"`),
	} {
		if _, err := ParseManifest("", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMalformedManifestIsInvalid(t *testing.T) {
	for name, c := range map[string]struct{ contentType, text string }{
		"nothing":                {"", ""},
		"null":                   {MediaTypeImageManifest, "null"},
		"a number":               {MediaTypeImageManifest, "1"},
		"more behind":            {MediaTypeImageManifest, plain + "{}"},
		"no media type":          {"", strings.Replace(plain, MediaTypeImageManifest, "", 1)},
		"a foreign media type":   {"application/json", plain},
		"a disagreement":         {MediaTypeDockerManifest, plain},
		"a malformed type":       {"application/", plain},
		"schema 1":               {"", strings.Replace(plain, `:2,"mediaType`, `:1,"mediaType`, 1)},
		"a text as a version":    {"", strings.Replace(plain, `:2,"mediaType`, `:"2","mediaType`, 1)},
		"no config":              {MediaTypeImageManifest, `{"schemaVersion":2,"layers":[]}`},
		"a null config":          {MediaTypeImageManifest, `{"schemaVersion":2,"config":null,"layers":[]}`},
		"layers as an object":    {"", strings.Replace(plain, "[]", "{}", 1)},
		"layers as a text":       {"", strings.Replace(plain, "[]", `"x"`, 1)},
		"layers twice":           {"", strings.Replace(plain, "[]", `[],"Layers":[]`, 1)},
		"a null layer":           {"", strings.Replace(plain, "[]", "[null]", 1)},
		"a layer as a text":      {"", strings.Replace(plain, "[]", `["`+sha256+`"]`, 1)},
		"a fraction of a size":   {"", strings.Replace(plain, `"size":2`, `"size":2.5`, 1)},
		"a negative size":        {"", strings.Replace(plain, `"size":2`, `"size":-2`, 1)},
		"a size beyond 64 bits":  {"", strings.Replace(plain, `"size":2`, `"size":18446744073709551616`, 1)},
		"a malformed subject":    {"", strings.Replace(plain, `"layers"`, `"subject":{"digest":"x"},"layers"`, 1)},
		"an image with children": {"", strings.Replace(plain, `"layers"`, `"manifests":[],"layers"`, 1)},
		"an index with a config": {MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"config":{}}`},
		"an index with layers":   {MediaTypeDockerList, `{"schemaVersion":2,"manifests":[],"layers":[]}`},
		"data that is no base64": {"", strings.Replace(plain, `"size":2`, `"size":2,"data":"%%"`, 1)},
	} {
		if m, err := ParseManifest(c.contentType, []byte(c.text)); !errors.Is(err, ErrManifestInvalid) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := ParseManifest("", make([]byte, MaxManifestSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// bombs are small to send and large to unpack.
func bombs() map[string]string {
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (MaxManifestSize-len(head)-len(tail))/len(unit)) + tail
	}
	return map[string]string{
		"nested lists":              fill("", "[", ""),
		"nested objects":            fill("", `{"a":`, ""),
		"nested below a known name": fill(`{"schemaVersion":2,"config":`, `{"annotations":`, ""),
		"nested where a list is":    fill(`{"schemaVersion":2,"layers":`, "[", ""),
		"empty layers":              fill(`{"schemaVersion":2,"layers":[{}`, ",{}", "]}"),
		"empty children":            fill(`{"schemaVersion":2,"manifests":[{}`, ",{}", "]}"),
		"null layers":               fill(`{"schemaVersion":2,"layers":[null`, ",null", "]}"),
		"layers again and again":    fill(`{"schemaVersion":2`, `,"layers":[{},{},{},{},{},{},{},{}]`, "}"),
		"urls":                      fill(`{"schemaVersion":2,"layers":[{"urls":[""`, `,""`, "]}]}"),
		"features of a platform": fill(`{"schemaVersion":2,"manifests":[{"platform":{"os.features":[""`, `,""`,
			"]}}]}"),
		"an endless number":            fill(`{"schemaVersion":`, "9", "}"),
		"an endless text":              fill(`{"mediaType":"`, `\u0000`, `"}`),
		"an endless name":              fill(`{"`, "x", `":1}`),
		"annotations of the same name": fill(`{"schemaVersion":2,"annotations":{"":""`, `,"":""`, "}}"),
	}
}

// maxBombCost is how much parsing a bomb may allocate in total, in MiB. Most of it is
// garbage immediately.
const maxBombCost = 200

func TestManifestBombUsesBoundedMemory(t *testing.T) {
	for name, text := range bombs() {
		t.Run(name, func(t *testing.T) {
			payload := []byte(text)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := ParseManifest(MediaTypeImageManifest, payload); AsError(err) == nil {
				t.Errorf("error %v", err)
			} else if len(AsError(err).Message) > 500 {
				t.Errorf("a message of %d bytes", len(AsError(err).Message))
			}
			runtime.ReadMemStats(&after)
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > maxBombCost {
				t.Errorf("%d MiB were allocated", used)
			}
		})
	}
}

func TestManifestMayHaveTheMaximumOfChildren(t *testing.T) {
	layer := `{"digest":"` + sha256 + `","size":1}`
	text := func(n int) []byte {
		return []byte(strings.Replace(plain, "[]", "["+strings.Repeat(layer+",", n-1)+layer+"]", 1))
	}
	m, err := ParseManifest("", text(MaxManifestChildren))
	if err != nil || len(m.Layers) != MaxManifestChildren || len(m.Blobs()) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := ParseManifest("", text(MaxManifestChildren+1)); !errors.Is(err, ErrManifestInvalid) {
		t.Errorf("one more: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("", []byte(plain))
	f.Add(MediaTypeDockerList, []byte(`{"schemaVersion":2,"manifests":[{"digest":"`+sha256+`","size":1}]}`))
	f.Add("a/b; c=d", []byte(`{"schemaVersion":2,"layers":[null]}`))
	f.Fuzz(func(t *testing.T, contentType string, payload []byte) {
		m, err := ParseManifest(contentType, payload)
		if err != nil {
			if e := AsError(err); e == nil || e.Status < 400 || e.Status > 499 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !IsManifest(m.MediaType) || IsIndex(m.MediaType) != (m.Config == nil) {
			t.Fatalf("manifest %+v", m)
		}
		for _, d := range append(m.Blobs(), m.Manifests...) {
			if _, err := ParseDigest(string(d.Digest)); err != nil || d.Size < 0 {
				t.Fatalf("descriptor %+v", d)
			}
		}
	})
}

func TestManifestMemoryIsBoundedBeforeDecoding(t *testing.T) {
	const head = `{"schemaVersion":2,"mediaType":"` + MediaTypeImageManifest +
		`","config":{"mediaType":"a/b","digest":"` +
		`sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2`
	fill := func(before, element, after string) string {
		n := (MaxManifestSize - len(before) - len(after) - 10) / (len(element) + 1)
		return before + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + after
	}
	var members strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&members, `"%x":"",`, i)
	}
	for name, text := range map[string]string{
		"URLs":        fill(head+`,"urls":[`, `""`, `]},"layers":[]}`),
		"features":    fill(head+`,"platform":{"os.features":[`, `""`, `]}},"layers":[]}`),
		"layers":      fill(head+`},"layers":[`, `{}`, `]}`),
		"annotations": head + `},"layers":[],"annotations":{` + strings.TrimSuffix(members.String(), ",") + `}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ParseManifest("", []byte(text))
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; !errors.Is(err, ErrManifestInvalid) || used > 40 {
			t.Errorf("%s: %v, %d MiB", name, err, used)
		}
	}
}

func TestLargestImagesAreAccepted(t *testing.T) {
	var layers strings.Builder
	for i := range MaxManifestChildren {
		fmt.Fprintf(&layers,
			`{"mediaType":"%s","digest":"sha256:%064x","size":%d,`+
				`"annotations":{"org.example.name":"layer-%d","org.example.of":"x"}},`,
			"application/vnd.oci.image.layer.v1.tar+gzip", i, i, i)
	}
	text := `{"schemaVersion":2,"mediaType":"` + MediaTypeImageManifest +
		`","config":{"mediaType":"a/b","digest":"sha256:` +
		strings.Repeat("0", 64) + `","size":2},"layers":[` + strings.TrimSuffix(layers.String(), ",") + `]}`
	m, err := ParseManifest("", []byte(text))
	if err != nil || len(m.Layers) != MaxManifestChildren || m.Memory < len(text) {
		t.Errorf("a manifest of %d bytes: %v", len(text), err)
	}
}

func TestShortestAnnotationsAreKept(t *testing.T) {
	parse := func(annotations string) map[string]string {
		t.Helper()
		m, err := ParseManifest("", []byte(strings.TrimSuffix(plain, "}")+`,"annotations":`+annotations+"}"))
		if err != nil {
			t.Fatalf("%.100s: %v", annotations, err)
		}
		return m.Annotations
	}
	if got := parse("null"); got != nil {
		t.Errorf("null becomes %v", got)
	}
	if diff := cmp.Diff(map[string]string{"a": "2", "b": "\u00e9"},
		parse(`{"a":"1","b":"\u00e9","a":"2"}`)); diff != "" {
		t.Error(diff)
	}
	all := map[string]string{}
	for i := range 3000 {
		all[fmt.Sprint("key", i)] = strings.Repeat("x", i*7%1000)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	got, size, longest := parse(string(text)), 0, 0
	for key, value := range got {
		size += len(key) + len(value) + 6
		longest = max(longest, len(key)+len(value))
	}
	if size > maxAnnotations || size < maxAnnotations-2000 {
		t.Errorf("%d bytes are kept", size)
	}
	for key, value := range all {
		if _, kept := got[key]; !kept && len(key)+len(value) < longest {
			t.Fatalf("%s, of %d bytes, is left out, and one of %d is kept", key, len(value), longest)
		}
	}
	for _, bad := range []string{`[]`, `"x"`, `{"a":1}`, `{"a":{}}`} {
		text := strings.TrimSuffix(plain, "}") + `,"annotations":` + bad + "}"
		if _, err := ParseManifest("", []byte(text)); !errors.Is(err, ErrManifestInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
