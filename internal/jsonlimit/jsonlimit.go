// Package jsonlimit decodes JSON of strangers within a limit on memory. Three bytes of text,
// such as "{},", are enough for a value of several hundred bytes, so that a limit on the text
// does not limit the memory. A [Decoder] adds up the memory of all values in a text before it
// creates any of them, and refuses a text that needs too much.
package jsonlimit

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrTooLarge is returned for a text whose values would take too much memory, or that is nested
// too deeply.
var ErrTooLarge = errors.New("it holds more than is allowed")

// maxDepth is how deeply lists and objects may be nested.
const maxDepth = 64

// Estimates in bytes, in addition to the size of a type.
const (
	stringCost = 16  // of a string: its bytes are rounded up
	mapCost    = 320 // of a map and its first members
	memberCost = 48  // of each member of a map, in addition to its key and its value
	anyCost    = 64  // of a value whose type depends on the text
	growth     = 2   // memory of a list while it grows, as a multiple of its length
)

// A FieldError says that an object has a field of its type twice, or by a name that differs
// from the field's in upper and lower case.
type FieldError string

// Error implements error.
func (e FieldError) Error() string { return string(e) }

// A Decoder decodes values of one type. It is immutable, and safe for concurrent use.
type Decoder[T any] struct {
	schema *schema
	limit  func(text int) int
	strict bool
}

// New returns a decoder of values that take at most memory bytes, as estimated from the sizes
// of their types.
func New[T any](memory int) *Decoder[T] {
	return NewScaled[T](func(int) int { return memory })
}

// NewScaled is [New] with a limit that depends on the size of the text.
func NewScaled[T any](memory func(text int) int) *Decoder[T] {
	return &Decoder[T]{schema: schemaOf(reflect.TypeFor[T](), map[reflect.Type]*schema{}), limit: memory}
}

// Strict returns a decoder that also refuses objects for which the error is a [FieldError].
// Package json accepts them, but readers differ in which of several values they use: two
// readers could find different values in the same text. The types have at most 64 fields each.
func (d *Decoder[T]) Strict() *Decoder[T] { return &Decoder[T]{d.schema, d.limit, true} }

// Unmarshal decodes text into v, and returns the estimated memory of the value in bytes. The
// error is [ErrTooLarge], a [FieldError], or one of [json.Unmarshal].
func (d *Decoder[T]) Unmarshal(text []byte, v *T) (memory int, err error) {
	if memory, err = d.Measure(text); err != nil {
		return 0, err
	}
	return memory, json.Unmarshal(text, v)
}

// Measure returns the estimated memory of the value of text in bytes. The error is
// [ErrTooLarge] or a [FieldError].
func (d *Decoder[T]) Measure(text []byte) (memory int, err error) {
	s := scanner{text: text, room: d.limit(len(text)), strict: d.strict}
	before := s.room
	// Invalid JSON ends the scan early. Unmarshal refuses it before it creates any value.
	if err := s.value(d.schema, 0); err != nil && !errors.Is(err, errSyntax) {
		return 0, err
	}
	return before - s.room, nil
}

// A schema describes a type.
type schema struct {
	kind   reflect.Kind
	size   int               // of a value
	elem   *schema           // of a list, a map or a pointer
	fields map[string]*field // of a struct, by its name and by its folded name
}

// A field is a field of a struct.
type field struct {
	*schema
	name string
	bit  uint64 // unique in the struct
}

// anything returns the schema of an interface, whose memory depends on the value.
func anything() *schema {
	s := &schema{kind: reflect.Interface, size: anyCost}
	s.elem = s
	return s
}

// schemaOf returns the schema of t. A type may contain itself.
func schemaOf(t reflect.Type, known map[reflect.Type]*schema) *schema {
	if s := known[t]; s != nil {
		return s
	}
	if t.Kind() == reflect.Interface {
		return anything()
	}
	s := &schema{kind: t.Kind(), size: int(t.Size())}
	known[t] = s
	switch s.kind {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Pointer:
		s.elem = schemaOf(t.Elem(), known)
	case reflect.Struct:
		s.fields = map[string]*field{}
		for i, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || f.Anonymous && name == "" {
				continue // VisibleFields includes the fields of an embedded struct
			}
			if name == "" {
				name = f.Name
			}
			own := &field{schemaOf(f.Type, known), name, 1 << i}
			s.fields[name], s.fields[fold(name)] = own, own
		}
	}
	return s
}

// fold returns the form of a name in which package json compares names without regard to case.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for { // the smallest of the equivalent runes
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

// errSyntax ends the scan of invalid JSON.
var errSyntax = errors.New("invalid JSON")

// A scanner adds up the memory of the values in a text. It accepts all valid JSON, and some
// that is invalid.
type scanner struct {
	text []byte
	at   int
	room int // bytes of memory that are left

	strict bool // see [Decoder.Strict]
}

// take subtracts bytes from the remaining memory.
func (s *scanner) take(bytes int) error {
	if s.room -= bytes; s.room < 0 {
		return fmt.Errorf("%w: its values would take too much memory", ErrTooLarge)
	}
	return nil
}

// next skips white space, and returns the byte after it; 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// value scans one value of type t; t is nil for a value that is not decoded.
func (s *scanner) value(t *schema, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: it is nested too deeply", ErrTooLarge)
	}
	c := s.next()
	for c != 'n' && t != nil && t.kind == reflect.Pointer {
		if t = t.elem; t != nil {
			if err := s.take(t.size); err != nil {
				return err
			}
		}
	}
	switch c {
	case 0:
		return errSyntax
	case '{':
		return s.object(t, depth)
	case '[':
		return s.list(t, depth)
	case '"':
		text, err := s.str()
		if err == nil && t != nil {
			err = s.take(stringCost + len(text))
		}
		return err
	}
	from := s.at
	for ; s.at < len(s.text); s.at++ {
		if strings.IndexByte(",]} \t\r\n", s.text[s.at]) >= 0 {
			break
		}
	}
	if s.at == from {
		return errSyntax
	}
	return nil
}

// str scans a string, and returns the text between its quotes.
func (s *scanner) str() ([]byte, error) {
	from := s.at + 1
	for i := from; i < len(s.text); i++ {
		switch s.text[i] {
		case '"':
			s.at = i + 1
			return s.text[from:i], nil
		case '\\':
			i++
		}
	}
	s.at = len(s.text)
	return nil, errSyntax
}

func (s *scanner) list(t *schema, depth int) error {
	var elem *schema
	cost := 0
	if t != nil && t.elem != nil && t.kind != reflect.Map {
		elem, cost = t.elem, growth*t.elem.size
	}
	return s.members(']', func() error {
		if err := s.take(cost); err != nil {
			return err
		}
		return s.value(elem, depth+1)
	})
}

func (s *scanner) object(t *schema, depth int) error {
	isMap := t != nil && (t.kind == reflect.Map || t.kind == reflect.Interface)
	if isMap {
		if err := s.take(mapCost); err != nil {
			return err
		}
	}
	seen := uint64(0)
	return s.members('}', func() error {
		if s.next() != '"' {
			return errSyntax
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if s.next() != ':' {
			return errSyntax
		}
		s.at++
		var member *schema
		switch {
		case isMap:
			member = t.elem
			if err := s.take(memberCost + stringCost + len(key) + member.size); err != nil {
				return err
			}
		case t != nil && t.fields != nil:
			f, exact := t.field(key)
			if f == nil {
				break
			}
			if s.strict && !exact {
				return FieldError(fmt.Sprintf("it has %.100q instead of %s", key, f.name))
			}
			if s.strict && seen&f.bit != 0 {
				return FieldError("it has " + f.name + " twice in one object")
			}
			seen |= f.bit
			member = f.schema
		}
		return s.value(member, depth+1)
	})
}

// members scans the members of a list or an object, up to end.
func (s *scanner) members(end byte, member func() error) error {
	for s.at++; ; {
		switch c := s.next(); c {
		case 0:
			return errSyntax
		case end:
			s.at++
			return nil
		case ',':
			s.at++
		default:
			if err := member(); err != nil {
				return err
			}
		}
	}
}

// field returns the field of a struct that a key names; nil if there is none. exact reports
// whether the key, without its escapes, is the field's name.
func (s *schema) field(key []byte) (f *field, exact bool) {
	if f = s.fields[string(key)]; f != nil { // the usual case, without a copy
		return f, f.name == string(key)
	}
	name := string(key)
	if strings.IndexByte(name, '\\') >= 0 && json.Unmarshal([]byte(`"`+name+`"`), &name) != nil {
		return nil, false
	}
	if f = s.fields[fold(name)]; f == nil || !utf8.ValidString(name) { // names of fields are valid UTF-8
		return nil, false
	}
	return f, f.name == name
}
