package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// Limits on a plan.
const (
	maxWants = 1000
	maxHaves = 10_000
	// maxReferrerDepth is how far referrers of referrers are followed.
	maxReferrerDepth = 4
	// maxIndexDepth is how far indexes within indexes are followed.
	maxIndexDepth = 8
)

// plan answers with the entries of a plan, one on each line.
func (s *server) plan(ctx context.Context, c caller, q wire.PlanRequest) (stream, error) {
	if len(q.Want) > maxWants || len(q.Have) > maxHaves {
		return stream{}, invalid("a plan is for at most %d wanted and %d present manifests", maxWants, maxHaves)
	}
	_, in, err := s.selectionOf(ctx, c)
	if err != nil {
		return stream{}, err
	}
	p := &planner{
		server: s, caller: c, version: commonCapability(q.Capability), platforms: in.filter.Platforms,
		have: map[wire.Want]bool{}, sent: map[wire.Want]bool{}, content: s.Storage,
	}
	if q.Locks {
		p.content = s.Storage.Unlocked()
	}
	for _, have := range q.Have {
		p.have[have] = true
	}
	write := func(ctx context.Context, w io.Writer) error {
		p.w = w
		defer p.endLarge()
		return p.run(ctx, q.Want)
	}
	return stream{registry: c.name, contentType: typeJSONLines, compress: true, write: write}, nil
}

// A planner writes the plan for one request.
type planner struct {
	*server
	caller    caller
	content   content // with or without regard to locks
	version   int     // of the protocol
	platforms subscription.Platforms
	w         io.Writer
	entries   int
	large     bool               // a large manifest was met: the plan is one of few that have any
	have      map[wire.Want]bool // manifests that the child has, with their blobs
	sent      map[wire.Want]bool // manifests and blobs that have their line
}

// content is where a plan reads: the storage, or its content without regard to locks.
type content interface {
	Manifest(ctx context.Context, repository, reference string) (*storage.Manifest, error)
	OpenBlob(ctx context.Context, repository string, d digest.Digest) (io.ReadSeekCloser, blob.Info, error)
}

func (p *planner) run(ctx context.Context, wants []wire.Want) error {
	for _, want := range wants {
		if err := p.want(ctx, want); err != nil {
			return err
		}
		if err := p.emit(wire.PlanEntry{Complete: &want}); err != nil {
			return err
		}
	}
	return p.write(wire.PlanEntry{End: &wire.PlanEnd{Entries: p.entries}})
}

// want writes everything that the child needs for one manifest, and its referrers.
func (p *planner) want(ctx context.Context, want wire.Want) error {
	if reason := p.caller.whyDenied(want.Repository); reason != "" {
		return p.emit(wire.PlanEntry{Missing: &wire.PlanMissing{Want: want, Reason: reason}})
	}
	return p.manifest(ctx, want, 0, 0)
}

// manifest writes everything below a manifest, then the manifest, then its
// referrers. If the child has the manifest, it writes only referrers.
func (p *planner) manifest(ctx context.Context, want wire.Want, depth, referrerDepth int) error {
	if p.sent[want] {
		return nil
	}
	p.sent[want] = true
	if depth > maxIndexDepth {
		return p.emit(wire.PlanEntry{Missing: &wire.PlanMissing{Want: want, Reason: "indexes are nested too deeply"}})
	}
	m, parsed, err := p.read(ctx, want)
	if e := oci.AsError(err); e != nil && e.Status < 500 {
		if p.have[want] {
			return nil
		}
		return p.emit(wire.PlanEntry{Missing: &wire.PlanMissing{Want: want, Reason: e.Message}})
	}
	if err == nil {
		err = p.tree(ctx, want, m, parsed, depth, referrerDepth)
	}
	if err != nil || referrerDepth >= maxReferrerDepth {
		return err
	}
	referrers, err := p.Storage.ReferrerDigests(ctx, want.Repository, want.Digest)
	if err != nil {
		return err
	}
	for _, referrer := range referrers {
		err := p.manifest(ctx, wire.Want{Repository: want.Repository, Digest: referrer}, depth, referrerDepth+1)
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads and parses a manifest. If that is large, it waits for the plan's turn.
func (p *planner) read(ctx context.Context, want wire.Want) (m *storage.Manifest, parsed *oci.Manifest, err error) {
	m, err = p.content.Manifest(ctx, want.Repository, string(want.Digest))
	if err == nil && m.Payload == nil {
		err = p.beginLarge(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	parsed, err = p.Storage.ParseManifest(ctx, m)
	if err != nil && !errors.Is(err, oci.ErrManifestUnknown) {
		err = fmt.Errorf("parse manifest %s: %v", want.Digest, err) // the fault is not the child's
	}
	return m, parsed, err
}

// tree writes everything below a manifest, and then the manifest.
func (p *planner) tree(
	ctx context.Context, want wire.Want, m *storage.Manifest, parsed *oci.Manifest, depth, referrerDepth int,
) error {
	children, left, err := p.children(ctx, want, parsed)
	if err != nil {
		return err
	}
	for _, child := range children {
		err := p.manifest(ctx, wire.Want{Repository: want.Repository, Digest: child}, depth+1, referrerDepth)
		if err != nil {
			return err
		}
	}
	if p.have[want] {
		return nil
	}
	for _, b := range parsed.Blobs() {
		if err := p.blob(ctx, want.Repository, b); err != nil {
			return err
		}
	}
	return p.emitManifest(ctx, m, left)
}

// beginLarge admits the plan to those few that have large manifests.
func (p *planner) beginLarge(ctx context.Context) error {
	if p.large {
		return nil
	}
	select {
	case p.admission.large <- struct{}{}:
		p.large = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *planner) endLarge() {
	if p.large {
		<-p.admission.large
	}
}

// children returns the children of an index that are sent to the caller, and those
// that are not, because its platforms exclude them or the index does not hold them
// here.
func (p *planner) children(
	ctx context.Context, index wire.Want, parsed *oci.Manifest,
) (kept, left []digest.Digest, _ error) {
	if len(parsed.Manifests) == 0 {
		return nil, nil, nil
	}
	all, err := p.Storage.HeldChildren(ctx, index.Repository, index.Digest)
	if err != nil {
		return nil, nil, err
	}
	held := map[digest.Digest]bool{}
	for _, d := range all {
		held[d] = true
	}
	leftOut := p.platforms.Omitted(parsed.Manifests)
	for _, child := range parsed.Manifests {
		if d := child.Digest; held[d] && !leftOut[d] {
			kept = append(kept, d)
		} else {
			left = append(left, d)
		}
	}
	return kept, left, nil
}

// blob writes a blob, with its content if that is small. An absent blob that may be
// absent has no entry.
func (p *planner) blob(ctx context.Context, repository string, of oci.Descriptor) error {
	d := of.Digest
	key := wire.Want{Repository: repository, Digest: d}
	if p.sent[key] {
		return nil
	}
	p.sent[key] = true
	content, info, err := p.content.OpenBlob(ctx, repository, d)
	if errors.Is(err, oci.ErrBlobUnknown) && oci.MayBeAbsent(of) {
		delete(p.sent, key) // another manifest may need it
		return nil
	}
	if errors.Is(err, oci.ErrBlobUnknown) {
		return p.emit(wire.PlanEntry{Missing: &wire.PlanMissing{Want: key, Reason: missingReason(err)}})
	}
	if err != nil {
		return err
	}
	defer content.Close()
	b := &wire.PlanBlob{
		Repository: repository, Digest: d, Size: info.Size, FetchMethods: []wire.FetchMethod{{Kind: wire.FetchWhole}},
	}
	if info.Size <= BatchLimit {
		b.FetchMethods = append(b.FetchMethods, wire.FetchMethod{Kind: wire.FetchBatch})
	}
	if info.Size <= wire.InlineLimit {
		b.FetchMethods = nil
		b.Data = make([]byte, info.Size)
		if _, err := io.ReadFull(content, b.Data); err != nil {
			return fmt.Errorf("read blob %s: %w", d, err)
		}
		if d.Algorithm().FromBytes(b.Data) != d { // the child would refuse the whole plan
			reason, err := p.Storage.VerifyBlob(ctx, d, storage.Unpaced)
			if err != nil {
				return err
			}
			return p.emit(wire.PlanEntry{Missing: &wire.PlanMissing{Want: key,
				Reason: "the parent's blob is damaged: " + reason}})
		}
	}
	return p.emit(wire.PlanEntry{Blob: b})
}

// missingReason returns why a blob of a manifest here is missing.
func missingReason(err error) string {
	if e := oci.AsError(err); e.Message != oci.ErrBlobUnknown.Message {
		return "at the parent, the " + e.Message
	}
	return "the parent lost this blob"
}

func (p *planner) emit(e wire.PlanEntry) error {
	p.entries++
	return p.write(e)
}

// write writes an entry, with the names of the child's version of the protocol.
func (p *planner) write(e wire.PlanEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if p.version < 2 {
		line = toVersion1(line, planRenames())
	}
	_, err = p.w.Write(append(line, '\n'))
	return err
}

// emitManifest writes a manifest. The payload of a large one is read and written chunk by chunk.
func (p *planner) emitManifest(ctx context.Context, m *storage.Manifest, left []digest.Digest) error {
	e := wire.PlanEntry{Manifest: &wire.PlanManifest{
		Repository: m.Repository, Digest: m.Digest, MediaType: m.MediaType, Payload: m.Payload, LeftOut: left,
	}}
	if m.Payload != nil {
		return p.emit(e)
	}
	p.entries++
	e.Manifest.Payload = []byte{}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	at := bytes.Index(line, []byte(payloadMember)) + len(payloadMember)
	if _, err := p.w.Write(line[:at]); err != nil {
		return err
	}
	encoder, payload := base64.NewEncoder(base64.StdEncoding, p.w), p.Storage.OpenPayload(m)
	for {
		chunk, err := payload.Next(ctx)
		if err == io.EOF {
			break
		}
		if err == nil {
			_, err = encoder.Write(chunk)
		}
		if err != nil {
			return err
		}
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	_, err = p.w.Write(append(line[at:], '\n'))
	return err
}
