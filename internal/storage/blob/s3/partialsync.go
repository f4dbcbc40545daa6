package s3

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"ferry/internal/storage/blob"
)

// startPut stores a cell that is full while the caller goes on. It waits while enough others are
// being stored.
func (p *partial) startPut(c *cell) {
	for p.puts >= maxPuts {
		p.changed.Wait()
	}
	p.puts++
	c.busy = true
	go func() {
		e, err := p.put(c, c.span())
		p.mu.Lock()
		defer p.mu.Unlock()
		p.puts--
		c.busy = false
		p.stored(c, e, err)
		p.failed = p.failed || err != nil
		p.dropOld()
		p.changed.Broadcast()
	}()
}

// dropOld forgets cells that are stored. If the partial is read while it is written, it keeps
// the last ones.
func (p *partial) dropOld() {
	keep := 0
	if p.wasRead {
		keep = maxPuts
	}
	for len(p.cells) > keep {
		var oldest *cell
		for _, c := range p.cells {
			if c.isFull() && !c.busy && len(c.dirty) == 0 && (oldest == nil || c.start < oldest.start) {
				oldest = c
			}
		}
		if oldest == nil {
			return
		}
		p.drop(oldest)
	}
}

// put stores the bytes of r, which are in the memory of c, as an object. The caller does not hold
// mu, and c is busy.
func (p *partial) put(c *cell, r blob.Range) (piece, error) {
	name := fmt.Sprintf("%012x-%s", r.Start, strings.ToLower(rand.Text()))
	etag, err := p.store.put(background(), partialDir(p.id)+name, c.content(r), always, nil)
	if err != nil {
		return piece{}, p.wrap("write", err)
	}
	return piece{Object: name, ETag: etag, Start: r.Start, End: r.End}, nil
}

// stored records the result of a put.
func (p *partial) stored(c *cell, e piece, err error) {
	if err != nil {
		return
	}
	c.dirty = c.dirty.Cut(e.span())
	p.stale = append(p.stale, p.index.put(e)...)
	p.unstored = true
}

// flush stores everything that is only in memory. The index is not stored. The caller holds mu,
// which flush releases while it waits.
func (p *partial) flush() error {
	p.wait()
	p.failed = false
	var g errgroup.Group
	g.SetLimit(maxPuts)
	var dirty []*cell
	for _, c := range p.cells {
		if len(c.dirty) > 0 {
			c.busy = true
			dirty = append(dirty, c)
		}
	}
	if len(dirty) == 0 {
		return nil
	}
	p.mu.Unlock()
	for _, c := range dirty {
		g.Go(func() error {
			for _, r := range c.unstored() {
				e, err := p.put(c, r)
				p.mu.Lock()
				p.stored(c, e, err)
				p.mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	p.mu.Lock()
	for _, c := range dirty {
		c.busy = false
	}
	p.failed = err != nil
	p.dropOld()
	p.changed.Broadcast()
	return err
}

// wait waits until no put runs. The caller holds mu.
func (p *partial) wait() {
	for {
		busy := p.puts > 0
		for _, c := range p.cells {
			busy = busy || c.busy
		}
		if !busy {
			return
		}
		p.changed.Wait()
	}
}

// Sync implements [blob.Partial].
func (p *partial) Sync() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sync()
}

func (p *partial) sync() error {
	if err := p.load(background()); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	if !p.unstored && p.etag != "" {
		return nil
	}
	if err := p.storeIndex(); err != nil {
		return p.wrap("sync", err)
	}
	if len(p.stale) >= maxStale {
		return p.wrap("sync", p.removeStale())
	}
	return nil
}

// storeIndex replaces the stored index, unless another process has replaced it.
func (p *partial) storeIndex() error {
	p.index.Writer = rand.Text()
	if_ := ifAbsent
	if p.etag != "" {
		if_ = ifMatches(p.etag)
	}
	etag, err := p.store.put(background(), indexKey(p.id), bytesOf(p.index.text()), if_, nil)
	if errors.Is(err, errCondition) || errors.Is(err, blob.ErrNotExist) {
		// It may be ours: the answer to an earlier try was cut.
		var x *index
		x, etag, err = p.store.readIndex(background(), p.id)
		if err == nil && x.Writer != p.index.Writer || errors.Is(err, blob.ErrNotExist) {
			err = errLost
		}
	}
	if err == nil {
		p.etag, p.unstored = etag, false
	}
	return err
}

func (p *partial) removeStale() error {
	keys := make([]string, len(p.stale))
	for i, name := range p.stale {
		keys[i] = partialDir(p.id) + name
	}
	p.stale = nil
	return p.store.remove(background(), keys...)
}
