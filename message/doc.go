// Package message is the format of messages and batches, and the language
// that selects messages by their fields.
package message
