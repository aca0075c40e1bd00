package auth

import "crypto/sha256"

// Digest is what a store holds instead of a key.
type Digest = [sha256.Size]byte

// maxPepper is the longest pepper used as it is; a longer one is hashed first,
// as HMAC does with a long key.
const maxPepper = sha256.BlockSize

// DigestOf returns the SHA-256 of pepper followed by key. The digest of a
// random key needs no pepper; a pepper, which must then be the same for every
// reader and writer of a store, makes a stolen store useless for testing
// guesses at imported keys. The plain concatenation is enough: nobody sees a
// digest from which to extend it. It allocates nothing up to the longest key
// that can exist (512 bytes).
func DigestOf(pepper, key []byte) Digest {
	if len(pepper) == 0 {
		return sha256.Sum256(key)
	}
	return pepperedDigest(pepper, key)
}

// pepperedDigest stands apart so that its buffer is not cleared for a digest
// without pepper.
//
//go:noinline
func pepperedDigest(pepper, key []byte) Digest {
	if len(pepper) > maxPepper {
		short := sha256.Sum256(pepper)
		return pepperedDigest(short[:], key)
	}
	var buf [maxPepper + maxKeyLength]byte
	text := append(append(buf[:0], pepper...), key...)
	return sha256.Sum256(text)
}
