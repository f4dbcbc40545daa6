package s3

import (
	"io"

	"ferry/internal/storage/blob"
)

// cellSize is the size of a cell, in bytes. A part of a multipart upload must have 5 MiB, except
// the last, and there may be 10,000 of them.
const cellSize = 8 << 20

// A cell is an aligned part of a partial, of which some bytes are in memory. Its owner is a
// [partial], whose lock guards it. While it is busy, its bytes are being stored and must not
// change.
type cell struct {
	start  int64
	blocks [cellSize / blockSize]*block
	valid  blob.Ranges // in memory, by their offsets in the partial
	dirty  blob.Ranges // of these, those that are not stored
	busy   bool
}

func (c *cell) span() blob.Range { return blob.Range{Start: c.start, End: c.start + cellSize} }

// block returns the place of the block with the byte at offset.
func (c *cell) block(offset int64) **block { return &c.blocks[(offset-c.start)/blockSize] }

// write copies content to r, which lies in one block, and returns the number of bytes.
func (c *cell) write(r blob.Range, content []byte) int {
	n := copy((*c.block(r.Start))[r.Start%blockSize:], content[:r.Len()])
	c.valid, c.dirty = c.valid.Add(r), c.dirty.Add(r)
	return n
}

// read copies bytes from offset on that are in memory. If got is 0, absent is how many of the
// bytes from offset on are not.
func (c *cell) read(content []byte, offset int64) (got int, absent int64) {
	r := blob.Range{Start: offset, End: min(offset+int64(len(content)), c.start+cellSize)}
	gaps := c.valid.Missing(r)
	if len(gaps) > 0 && gaps[0].Start == offset {
		return 0, gaps[0].Len()
	}
	if len(gaps) > 0 {
		r.End = gaps[0].Start
	}
	b := (*c.block(offset))[offset%blockSize:]
	return copy(content[:r.Len()], b), 0
}

// cut forgets the bytes of r.
func (c *cell) cut(r blob.Range) { c.valid, c.dirty = c.valid.Cut(r), c.dirty.Cut(r) }

// isFull reports whether all bytes of the cell are in memory.
func (c *cell) isFull() bool { return len(c.valid) == 1 && c.valid[0] == c.span() }

// unstored returns the parts that must be stored: all of a full cell, so that it is one object.
func (c *cell) unstored() []blob.Range {
	if c.isFull() {
		return []blob.Range{c.span()}
	}
	return append([]blob.Range(nil), c.dirty...)
}

// content returns the bytes of r, which are in memory.
func (c *cell) content(r blob.Range) io.ReadSeeker {
	return &blockReader{blocks: c.blocks[:], start: r.Start - c.start, end: r.End - c.start}
}

// release gives the memory of the cell back, and returns the number of blocks.
func (c *cell) release(m *memory) (n int) {
	for _, b := range c.blocks {
		if b != nil {
			n++
		}
	}
	m.give(c.blocks[:])
	clear(c.blocks[:])
	return n
}
