package simulate

import "strings"

// A content event carries a mark in the field "obfuscation", which is where
// OpenAI itself puts random padding: the send time (Now, 16 hex digits), the
// event's index from 0 (6 digits) and filler that brings the event to its size.
//
//	"obfuscation":"000012ab34cd56ef.000017.qrstuvwxyz…"
const (
	markKey   = `"obfuscation":"`
	timeWidth = 16
)

const hexDigits = "0123456789abcdef"

// appendMark appends the mark field with its filler and then tail, so that the
// event that begins at start has size bytes, or as few more as it needs.
func appendMark(dst []byte, start, size int, sent int64, index int, tail string) []byte {
	dst = append(dst, markKey...)
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[sent>>shift&15])
	}
	dst = append(dst, '.')
	for div := 100_000; div > 0; div /= 10 {
		dst = append(dst, byte('0'+index/div%10))
	}
	dst = append(dst, '.')
	dst = appendFiller(dst, index, size-(len(dst)-start)-1-len(tail))
	dst = append(dst, '"')
	return append(dst, tail...)
}

// filler is cyclic: a lost or doubled run of bytes shows unless it is a
// multiple of its length, which is prime.
var filler = func() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return strings.Repeat(alphabet, 18)[:1109]
}()

// appendFiller appends n bytes that depend on index; none where n is negative.
func appendFiller(dst []byte, index, n int) []byte {
	at := index % len(filler)
	for n > 0 {
		k := min(n, len(filler)-at)
		dst = append(dst, filler[at:at+k]...)
		n -= k
		at = 0
	}
	return dst
}

// words is what answers say, over and over. It holds text of two and three
// bytes a character, so that a cut inside one is exercised.
var words = strings.SplitAfter("A relay stands between those who ask and those who answer. "+
	"It hands each word on as it comes, counts what was said, and keeps nothing for itself. "+
	"Naïve ones wait for the whole answer; good ones forward the first word → at once. "+
	"When the asker leaves, it tells the answerer to stop. 它逐字转发。", " ")

func word(i int) string { return words[i%len(words)] }

func appendText(dst []byte, events int) []byte {
	for i := range events {
		dst = append(dst, word(i)...)
	}
	return dst
}
