package s3

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"syscall"

	"ferry/internal/storage/blob"
)

var _ blob.Partial = (*partial)(nil)

// partialID matches the ids of partials, which contain no path.
var partialID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

const (
	// maxSize is the size of the largest partial, which Amazon's limit of 10,000 parts and the
	// size of a cell give.
	maxSize = 10_000 * cellSize
	// maxPuts is how many cells of a partial are stored at a time while it is written to.
	maxPuts = 2
	// maxStale is how many objects of a partial are kept at most that its index does not name.
	maxStale = 100
)

// errLost is the error of a partial that another process has continued.
var errLost = errors.New("another process has continued it")

// A partial is the content of a blob that is being written. What is written stays in memory, in
// cells, until its cell is full or a Sync comes. A cell that is full is stored as one object,
// while the caller goes on. A Sync stores the bytes that are not stored as objects of their own;
// when the cell is full later, it replaces them. So each byte is stored twice at most, and all
// cells but the last are large enough for a part of a blob.
type partial struct {
	store *Store
	id    string

	mu        sync.Mutex
	changed   *sync.Cond // when a put ends
	index     *index     // nil until it is loaded
	etag      string     // of the stored index; "" is none
	unstored  bool       // the index differs from the stored one
	cells     map[int64]*cell
	blocks    int // of all cells
	puts      int // that run
	failed    bool
	stale     []string // objects that the index no longer names
	wasRead   bool     // its reader wants the last bytes again
	discarded bool

	reading sync.Mutex // guards stream
	stream  *reader    // of the object that was read last
}

// Partial implements [blob.Store]. The partial is loaded when it is first used.
func (s *Store) Partial(_ context.Context, id string) (blob.Partial, error) {
	if err := checkPartial(id); err != nil {
		return nil, err
	}
	p := s.newPartial(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[id] = p
	return p, nil
}

func (s *Store) newPartial(id string) *partial {
	p := &partial{store: s, id: id, cells: map[int64]*cell{}}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func checkPartial(id string) error {
	if !partialID.MatchString(id) {
		return fmt.Errorf("open partial: malformed id %.40q", id)
	}
	return nil
}

// partialDir returns the prefix of the keys of a partial.
func partialDir(id string) string { return "partials/" + id + "/" }

// indexKey returns the key of a partial's index.
func indexKey(id string) string { return partialDir(id) + "index" }

// background is the context of requests that the end of a client's request does not interrupt:
// what was received is kept. Each request has a time limit.
func background() context.Context { return context.Background() }

// load reads the index, unless that was done. The caller holds mu.
func (p *partial) load(ctx context.Context) error {
	if p.index != nil {
		return nil
	}
	x, etag, err := p.store.readIndex(ctx, p.id)
	switch {
	case errors.Is(err, blob.ErrNotExist):
		p.index = &index{Version: indexVersion}
	case err != nil:
		return p.wrap("open", err)
	default:
		p.index, p.etag = x, etag
	}
	return nil
}

func (p *partial) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s partial %s: %w", verb, p.id, err)
}

func (s *Store) readIndex(ctx context.Context, id string) (*index, string, error) {
	text, etag, err := s.get(ctx, indexKey(id), maxIndex)
	if err != nil {
		return nil, "", err
	}
	x, err := parseIndex(text)
	return x, etag, err
}

// WriteAt implements [io.WriterAt].
func (p *partial) WriteAt(content []byte, offset int64) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(background()); err != nil {
		return 0, err
	}
	if offset < 0 || offset+int64(len(content)) > maxSize {
		return 0, p.wrap("write", fmt.Errorf("it has %d bytes at most: %w", int64(maxSize), syscall.EFBIG))
	}
	if p.failed { // a cell could not be stored
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	for n < len(content) {
		at := offset + int64(n)
		c := p.cell(at)
		if c.busy {
			p.changed.Wait()
			continue
		}
		r := blob.Range{Start: at, End: min(at+int64(len(content)-n), at-at%blockSize+blockSize)}
		if !p.reserve(c, at) {
			if p.puts > 0 { // one of them gives memory back when it ends
				p.changed.Wait()
				continue
			}
			if err := p.makeRoom(); err != nil {
				return n, err
			}
			continue
		}
		n += c.write(r, content[n:])
		if c.isFull() {
			p.startPut(c)
		}
	}
	return n, nil
}

// cell returns the cell with the byte at offset.
func (p *partial) cell(offset int64) *cell {
	start := offset - offset%cellSize
	c := p.cells[start]
	if c == nil {
		c = &cell{start: start}
		p.cells[start] = c
	}
	return c
}

// reserve makes sure that c has a block for the byte at offset. It returns false if there is no
// memory before the partial gives back its own.
func (p *partial) reserve(c *cell, offset int64) bool {
	b := c.block(offset)
	if *b != nil {
		return true
	}
	*b = p.store.memory.take(p.blocks < ownMemory/blockSize)
	if *b == nil {
		return false
	}
	p.blocks++
	return true
}

// drop forgets a cell that is stored, or was cut off.
func (p *partial) drop(c *cell) {
	p.blocks -= c.release(p.store.memory)
	delete(p.cells, c.start)
}

// makeRoom stores everything, and gives all memory back.
func (p *partial) makeRoom() error {
	if err := p.flush(); err != nil {
		return err
	}
	for _, c := range p.cells {
		p.drop(c)
	}
	return nil
}

// Close implements [blob.Partial].
func (p *partial) Close() error {
	p.store.mu.Lock()
	if p.store.open[p.id] == p {
		delete(p.store.open, p.id)
	}
	p.store.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait()
	var err error
	if unsynced := p.unstored || p.hasDirty(); unsynced && !p.discarded && !p.failed {
		err = p.sync()
	}
	for _, c := range p.cells {
		p.drop(c)
	}
	p.reading.Lock()
	defer p.reading.Unlock()
	p.closeStream()
	return err
}

func (p *partial) hasDirty() bool {
	for _, c := range p.cells {
		if len(c.dirty) > 0 {
			return true
		}
	}
	return false
}
