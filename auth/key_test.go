package auth

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestKeysAreWrittenAsTheyAlwaysWere(t *testing.T) {
	var ones [keyRandom]byte
	for i := range ones {
		ones[i] = 0xff
	}
	for _, test := range []struct {
		secret [keyRandom]byte
		want   string
	}{
		{[keyRandom]byte{}, "sk-relay-0000000000000000000000000000000000000000000"},
		{[keyRandom]byte{31: 61}, "sk-relay-000000000000000000000000000000000000000000z"},
		{[keyRandom]byte{31: 62}, "sk-relay-0000000000000000000000000000000000000000010"},
		{ones, "sk-relay-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"},
	} {
		key := formKey(test.secret)
		if len(key) != keyLength || keyLength != 58 {
			t.Errorf("key %q has %d characters, want 58", key, len(key))
		}
		if got := key[:keyLength-keyChecksum]; got != test.want {
			t.Errorf("digits of the secret: got %q, want %q", got, test.want)
		}
	}
	// The whole key, as worked out by another program.
	if got, want := formKey(ones), "sk-relay-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13RLSSn"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGeneratedKeysDifferAndPassTheirCheck(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		key := Generate()
		if ours, ok := CheckForm([]byte(key)); !ours || !ok || seen[key] {
			t.Fatalf("CheckForm(%q) = %v, %v; seen before: %v", key, ours, ok, seen[key])
		}
		seen[key] = true
	}
}

func TestEveryMistypedCharacterOfAKeyIsNoticed(t *testing.T) {
	key := []byte(Generate())
	for i := len(keyPrefix); i < len(key); i++ {
		for _, c := range []byte(base62) {
			if c == key[i] {
				continue
			}
			wrong := bytes.Clone(key)
			wrong[i] = c
			if ours, ok := CheckForm(wrong); !ours || ok {
				t.Fatalf("character %d of %q as %q: CheckForm = %v, %v", i, key, c, ours, ok)
			}
		}
	}
}

func TestKeysOfOtherFormsAreNotOursAndMayExist(t *testing.T) {
	key := Generate()
	for _, other := range []string{
		"", "x", "sk-relay-", "sk-relay-test-key-123", "sk-proj-abc", key[1:], key + "0", key[:len(key)-1],
		"SK-RELAY-" + key[len(keyPrefix):], strings.Replace(key, "sk-relay-", "sk-relay_", 1),
		key[:20] + "-" + key[21:], key[:20] + "\x00" + key[21:], key[:20] + "é" + key[22:],
	} {
		if ours, ok := CheckForm([]byte(other)); ours || !ok {
			t.Errorf("CheckForm(%q) = %v, %v; want false, true", other, ours, ok)
		}
	}
}

func TestIDsAreWellFormedAndNotKeys(t *testing.T) {
	for range 1000 {
		if id := newID(); checkID(id) != nil || len(id) != 16 {
			t.Fatalf("id %q", id)
		}
	}
}

func FuzzCheckForm(f *testing.F) {
	f.Add([]byte("sk-relay-test-key-123"))
	f.Add([]byte(formKey([keyRandom]byte{1, 2, 3})))
	f.Add([]byte("sk-relay-0000000000000000000000000000000000000000000000000"))
	f.Fuzz(func(t *testing.T, key []byte) {
		before := bytes.Clone(key)
		ours, ok := CheckForm(key)
		if !bytes.Equal(before, key) {
			t.Fatal("the key was changed")
		}
		if !ours && !ok {
			t.Fatalf("%q: not ours, yet refused", key)
		}
		if !ours {
			return
		}
		if len(key) != keyLength || !bytes.HasPrefix(key, []byte(keyPrefix)) {
			t.Fatalf("%q: ours, with another length or prefix", key)
		}
		// The right checksum exists for any digits, and no other is accepted.
		right := bytes.Clone(key)
		putChecksum(right[keyLength-keyChecksum:], right[:keyLength-keyChecksum])
		if ok != bytes.Equal(right, key) {
			t.Fatalf("%q: ok = %v, but the checksum digits should make %q", key, ok, right)
		}
	})
}

func TestDigestIsSHA256OfPepperAndKey(t *testing.T) {
	long := bytes.Repeat([]byte("p"), 100)
	for _, test := range []struct {
		name        string
		pepper, key []byte
		want        Digest
	}{
		{"no pepper", nil, []byte("key"), DigestOf(nil, []byte("key"))},
		{"pepper", []byte("pep"), []byte("key"), DigestOf(nil, []byte("pepkey"))},
		{"longest key", []byte("p"), bytes.Repeat([]byte("k"), maxKeyLength), DigestOf(nil, append([]byte("p"), bytes.Repeat([]byte("k"), maxKeyLength)...))},
	} {
		if got := DigestOf(test.pepper, test.key); got != test.want {
			t.Errorf("%s: got %x, want %x", test.name, got, test.want)
		}
	}
	short := DigestOf(nil, long)
	if DigestOf(long, []byte("key")) != DigestOf(short[:], []byte("key")) {
		t.Error("a long pepper is not hashed first")
	}
}

// digestOf numbers digests for tests.
func digestOf(i int) Digest {
	var d Digest
	rng := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
	rng.Read(d[:])
	return d
}

func TestKeysAreFoundInTextThatClientsChoose(t *testing.T) {
	key := Generate()
	for text, want := range map[string]bool{
		key: true, "/v1/" + key: true, "/v1/models/" + key + "/x": true, "curl " + key: true, "a=" + key + "&b": true,
		"sk-" + strings.Repeat("0123456789abcdef", 2): true, "sk-proj-" + strings.Repeat("a_B-", 10): true, "/sk-a/" + key: true,
		"": false, "sk-": false, "gpt-4o": false, "sk-llama-3-70b-instruct": false, "/v1/desk-" + strings.Repeat("a", 40): false, "task-" + strings.Repeat("a", 40): false,
		key[:30]: false,
	} {
		if HoldsKey([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func FuzzHoldsKey(f *testing.F) {
	f.Add("/v1/", "/chat")
	f.Fuzz(func(t *testing.T, before, after string) {
		HoldsKey([]byte(before + after)) // ends, and does not panic
		key := Generate()
		if !HoldsKey([]byte(before + "/" + key + "/" + after)) {
			t.Errorf("not found between %q and %q", before, after)
		}
	})
}
