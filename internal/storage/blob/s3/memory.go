package s3

import (
	"io"
	"sync"
)

// Memory for content that is being written, in blocks. All partials share sharedMemory. One
// that needs more than is left uses at most ownMemory beyond that: then it stores what it has in
// smaller objects. So n partials take at most sharedMemory + n × ownMemory.
const (
	blockSize    = 64 << 10
	sharedMemory = 128 << 20
	ownMemory    = 1 << 20
)

// memory counts the blocks in use, and keeps those that were given back.
type memory struct {
	mu   sync.Mutex
	left int // blocks
	free []*block
}

type block [blockSize]byte

func newMemory(bytes int) *memory { return &memory{left: bytes / blockSize} }

// take returns a block; nil if none is left and must is false.
func (m *memory) take(must bool) *block {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left <= 0 && !must {
		return nil
	}
	m.left--
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b
	}
	return new(block)
}

// give takes blocks back.
func (m *memory) give(blocks []*block) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range blocks {
		if b == nil {
			continue
		}
		m.left++
		if len(m.free) < freeBlocks {
			m.free = append(m.free, b)
		}
	}
}

// freeBlocks is how many blocks are kept for the next user at most.
const freeBlocks = 16 << 20 / blockSize

// A blockReader reads a part of blocks. Blocks that are nil must not be read.
type blockReader struct {
	blocks     []*block
	start, end int64 // in the blocks
	offset     int64 // from start
}

// Read implements [io.Reader].
func (r *blockReader) Read(p []byte) (n int, _ error) {
	for n < len(p) && r.start+r.offset < r.end {
		at := r.start + r.offset
		b := r.blocks[at/blockSize][at%blockSize:]
		c := copy(p[n:], b[:min(int64(len(b)), r.end-at)])
		n += c
		r.offset += int64(c)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements [io.Seeker], for the start of the content and for its size.
func (r *blockReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.end - r.start
	}
	r.offset = offset
	return offset, nil
}
