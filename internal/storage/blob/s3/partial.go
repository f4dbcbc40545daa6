package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

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

func (p *partial) closeStream() {
	if p.stream != nil {
		p.stream.close()
		p.stream = nil
	}
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
