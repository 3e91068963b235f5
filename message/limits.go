package message

import (
	"fmt"
	"unicode/utf8"
)

// Limits of the format. Builders keep them and decoders refuse what breaks
// them before they allocate. Sizes are bytes, without compression.
const (
	// MaxMessageSize is the default limit on one message: body, fields and
	// headers as encoded. An operator may set another.
	MaxMessageSize = 8 << 20
	// HardMaxMessageSize is the highest limit on one message.
	HardMaxMessageSize = 32 << 20
	// MaxBatchSize limits a batch of several messages. A batch of a single
	// message may be larger.
	MaxBatchSize = 1 << 20
	// MaxEncodedSize limits any batch: the largest message with its batch
	// header, directory and dictionary.
	MaxEncodedSize = HardMaxMessageSize + 128<<10
	// MaxBatchMessages limits the messages of a batch.
	MaxBatchMessages = 65535
	// MaxNameLen limits names, keys and the strings of matchers.
	MaxNameLen = 256
	// MaxNames limits the different names of fields and headers in a batch.
	MaxNames = 4096
	// MaxNameBytes limits the sum of the lengths of these names.
	MaxNameBytes = 65535
	// MaxNesting limits how deep messages nest. Fields of the message itself
	// have depth 1.
	MaxNesting = 16
	// MaxItems limits the fields, headers, array elements and nested messages
	// of one message, all depths together. It bounds what decoding allocates
	// for bytes that are cheap to send.
	MaxItems = 65536
	// MaxMatcherTerms limits the members of a matcher.
	MaxMatcherTerms = 64
	// MaxMatcherSize limits the text of a matcher.
	MaxMatcherSize = 64 << 10
)

// ValidName checks a name: of a field, header, endpoint, durable, store and
// so on. It has 1 to 256 bytes of UTF-8 and does not begin with '_', which is
// reserved. Errors wrap ErrName, or ErrUTF8.
func ValidName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > MaxNameLen:
		return fmt.Errorf("%w: %.40q... has %d bytes, at most %d are allowed", ErrName, name, len(name), MaxNameLen)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: name %q", ErrUTF8, name)
	case name[0] == '_':
		return fmt.Errorf("%w: %q begins with '_', which is reserved", ErrName, name)
	}
	return nil
}

// validKey checks the key of a message. Unlike a name it may begin with '_'.
func validKey(key string) error {
	if len(key) > MaxNameLen {
		return fmt.Errorf("%w: key has %d bytes, at most %d are allowed", ErrTooLarge, len(key), MaxNameLen)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("%w: key %q", ErrUTF8, key)
	}
	return nil
}
