package s3

import (
	"context"
	"io"

	"ferry/internal/storage/blob"
)

// Size implements [blob.Partial].
func (p *partial) Size() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(background()); err != nil {
		return 0, err
	}
	return p.size(), nil
}

func (p *partial) size() int64 {
	size := p.index.size()
	for _, c := range p.cells {
		if n := len(c.valid); n > 0 {
			size = max(size, c.valid[n-1].End)
		}
	}
	return size
}

// Truncate implements [blob.Partial].
func (p *partial) Truncate(size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(background()); err != nil {
		return err
	}
	p.wait()
	rest := blob.Range{Start: size, End: maxSize}
	if p.index.size() > size {
		p.stale = append(p.stale, p.index.cut(rest)...)
		p.unstored = true
	}
	for _, c := range p.cells {
		if c.cut(rest); len(c.valid) == 0 {
			p.drop(c)
		}
	}
	return nil
}

// ReadAt implements [io.ReaderAt]. What is not in memory is fetched, in order if it is read in
// order.
func (p *partial) ReadAt(content []byte, offset int64) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(background()); err != nil {
		return 0, err
	}
	p.wasRead = true
	size := p.size()
	for n < len(content) {
		at := offset + int64(n)
		if at >= size {
			return n, io.EOF
		}
		rest := content[n:min(int64(len(content)), int64(n)+size-at)]
		got := 0
		unwritten := min(int64(len(rest)), at-at%cellSize+cellSize-at)
		if c := p.cells[at-at%cellSize]; c != nil {
			got, unwritten = c.read(rest, at)
		}
		if got == 0 {
			got, err = p.fetch(rest[:unwritten], at)
		}
		if n += got; err != nil {
			return n, p.wrap("read", err)
		}
	}
	return n, nil
}

// fetch reads bytes that are not in memory, and returns how many. Those that were never written
// are zero. The caller holds mu, which fetch releases while it waits.
func (p *partial) fetch(content []byte, offset int64) (int, error) {
	e, gap := p.index.find(offset)
	if gap > 0 {
		content = content[:min(int64(len(content)), gap)]
		clear(content)
		return len(content), nil
	}
	content = content[:min(int64(len(content)), e.End-offset)]
	p.mu.Unlock()
	defer p.mu.Lock()
	p.reading.Lock()
	defer p.reading.Unlock()
	key := partialDir(p.id) + e.Object
	if p.stream == nil || p.stream.key != key {
		p.closeStream()
		p.stream = p.store.reader(background(), key, e.ETag, 0, e.From+e.End-e.Start)
	}
	if _, err := p.stream.Seek(e.From+offset-e.Start, io.SeekStart); err != nil {
		return 0, err
	}
	return p.stream.Read(content)
}

// readPieces returns the bytes of pieces of the stored index, without gaps. Bytes that are not in memory
// are fetched with one request for each piece, so that several calls do not disturb each other.
func (p *partial) readPieces(ctx context.Context, pieces []piece) ([]byte, error) {
	if len(pieces) == 0 {
		return nil, nil
	}
	start := pieces[0].Start
	content := make([]byte, pieces[len(pieces)-1].End-start)
	for _, e := range pieces {
		if err := p.readPiece(ctx, e, content[e.Start-start:e.End-start]); err != nil {
			return nil, p.wrap("read", err)
		}
	}
	return content, nil
}

func (p *partial) readPiece(ctx context.Context, e piece, content []byte) error {
	n := p.readMemory(content, e.Start)
	if n == len(content) {
		return nil
	}
	r := p.store.reader(ctx, partialDir(p.id)+e.Object, e.ETag, e.From+int64(n), int64(len(content)-n))
	defer r.close()
	r.window = r.size
	_, err := io.ReadFull(r, content[n:])
	return err
}

// readMemory reads bytes from offset on that are in memory, and returns how many.
func (p *partial) readMemory(content []byte, offset int64) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(content) {
		at := offset + int64(n)
		c := p.cells[at-at%cellSize]
		if c == nil {
			return n
		}
		got, _ := c.read(content[n:], at)
		if got == 0 {
			return n
		}
		n += got
	}
	return n
}

func (p *partial) closeStream() {
	if p.stream != nil {
		p.stream.close()
		p.stream = nil
	}
}
