package auth

import (
	"bytes"
	"crypto/rand"
	"hash/crc32"
	"math/big"
	"strings"
)

// A key of ours is the prefix, 32 random bytes as a base-62 number of fixed
// width, and the CRC-32 of all that as another: sk-relay-<43><6>. The checksum
// lets a mistyped or forged key be refused without asking any store; it adds
// no secrecy.
const (
	keyPrefix   = "sk-relay-"
	keyRandom   = 32
	keyDigits   = 43 // 62^43 > 2^256
	keyChecksum = 6  // 62^6 > 2^32
	keyLength   = len(keyPrefix) + keyDigits + keyChecksum

	// maxKeyLength bounds what is hashed. No key longer than this can be
	// imported, so none can be known.
	maxKeyLength = 512
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Generate makes a new key from 32 bytes of crypto/rand.
func Generate() string {
	var secret [keyRandom]byte
	rand.Read(secret[:]) // never fails: it ends the process instead
	return formKey(secret)
}

// formKey writes the key that stands for secret.
func formKey(secret [keyRandom]byte) string {
	var key [keyLength]byte
	copy(key[:], keyPrefix)
	end := len(keyPrefix) + keyDigits
	n, digit, base := new(big.Int).SetBytes(secret[:]), new(big.Int), big.NewInt(int64(len(base62)))
	for i := end - 1; i >= len(keyPrefix); i-- {
		n.DivMod(n, base, digit)
		key[i] = base62[digit.Int64()]
	}
	putChecksum(key[end:], key[:end])
	return string(key[:])
}

// putChecksum writes the CRC-32 (IEEE) of text into dst as base-62 digits.
func putChecksum(dst, text []byte) {
	sum := crc32.ChecksumIEEE(text)
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = base62[sum%62]
		sum /= 62
	}
}

// CheckForm tells whether key has the form of a generated key (ours) and
// whether it may exist at all (ok). A key of our prefix, length and alphabet
// whose checksum digits are wrong was mistyped or made up: no store need be
// asked, and import refuses it. Any other string may have been imported, so it
// is never ours and always ok, the prefix notwithstanding. It allocates nothing.
func CheckForm(key []byte) (ours, ok bool) {
	if len(key) != keyLength || string(key[:len(keyPrefix)]) != keyPrefix {
		return false, true
	}
	for _, c := range key[len(keyPrefix):] {
		if !alphanumeric(c) {
			return false, true
		}
	}
	var sum [keyChecksum]byte
	end := keyLength - keyChecksum
	putChecksum(sum[:], key[:end])
	return true, string(sum[:]) == string(key[end:])
}

// alphanumeric reports whether c is one of the base-62 digits.
func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// newID makes a record's id: not secret, and long enough (71 bits) never to
// be given twice.
func newID() string {
	const digits = 12
	id := []byte("key_")
	for len(id) < len("key_")+digits {
		var b [1]byte
		rand.Read(b[:])
		if b[0] < 4*62 { // else the first digits would come more often
			id = append(id, base62[b[0]%62])
		}
	}
	return string(id)
}

// resemblesKey reports whether s looks like a raw key, of ours or of a
// provider, that somebody put where a name belongs. Such a text is refused and
// never repeated.
func resemblesKey(s string) bool {
	return len(s) >= 3 && strings.EqualFold(s[:3], "sk-")
}

// minKeyRun is the length of the shortest key that HoldsKey knows: providers'
// are sk- and at least 32 characters.
const minKeyRun = 32

// HoldsKey reports whether text that a client chose, such as a path or a model,
// holds a raw key of the relay or of a provider. Such text is not recorded.
func HoldsKey(text []byte) bool {
	for at := 0; ; {
		i := bytes.Index(text[at:], []byte("sk-"))
		if i < 0 {
			return false
		}
		at += i
		end := at + len("sk-")
		for end < len(text) && keyByte(text[end]) {
			end++
		}
		if end-at >= minKeyRun && (at == 0 || !keyByte(text[at-1])) {
			return true
		}
		at = end
	}
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
