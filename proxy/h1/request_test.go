package h1

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckRequest(t *testing.T) {
	const host = "Host: relay\r\n"
	for _, c := range []struct {
		name, block string
		want        error
	}{
		{"ordinary", host + "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n", nil},
		{"chunked", host + "Transfer-Encoding: chunked\r\n\r\n", nil},
		{"chunked in upper case with space around", host + "TRANSFER-ENCODING: \t Chunked \t\r\n\r\n", nil},
		{"empty value", host + "X-Empty:\r\n\r\n", nil},
		{"value with obs-text", host + "X-Name: caf\xc3\xa9\r\n\r\n", nil},
		{"value with tab inside", host + "X-Tab: a\tb\r\n\r\n", nil},
		{"every token character", host + "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n", nil},
		{"length zero", host + "Content-Length: 0\r\n\r\n", nil},
		{"length of 18 digits", host + "Content-Length: 999999999999999999\r\n\r\n", nil},
		{"no empty line", host, nil},

		{"bare LF at a line's end", "Host: relay\n\r\n", ErrBareLineEnd},
		{"bare LF as the empty line", host + "\n", ErrBareLineEnd},
		{"no line end", "Host: relay", ErrBareLineEnd},
		{"bytes behind the empty line", host + "\r\nX: y\r\n\r\n", ErrBareLineEnd},
		{"space before the first line", " Host: relay\r\n\r\n", ErrFolded},
		{"folded with a space", host + "X-A: a\r\n b\r\n\r\n", ErrFolded},
		{"folded with a tab", host + "X-A: a\r\n\tb\r\n\r\n", ErrFolded},
		{"folded framing", host + "X-A: a\r\n Transfer-Encoding: chunked\r\n\r\n", ErrFolded},
		{"no colon", host + "X-A\r\n\r\n", ErrFieldName},
		{"empty name", host + ": x\r\n\r\n", ErrFieldName},
		{"space before the colon", host + "Content-Length : 5\r\n\r\n", ErrFieldName},
		{"tab before the colon", host + "Content-Length\t: 5\r\n\r\n", ErrFieldName},
		{"space in a name", host + "X A: 5\r\n\r\n", ErrFieldName},
		{"NUL in a name", host + "X\x00A: 5\r\n\r\n", ErrFieldName},
		{"high byte in a name", host + "X\xffA: 5\r\n\r\n", ErrFieldName},
		{"CR alone in a value", host + "X-A: a\rb\r\n\r\n", ErrFieldValue},
		{"CR twice at a line's end", host + "X-A: a\r\r\n\r\n", ErrFieldValue},
		{"NUL in a value", host + "X-A: a\x00\r\n\r\n", ErrFieldValue},
		{"DEL in a value", host + "X-A: a\x7f\r\n\r\n", ErrFieldValue},
		{"vertical tab before the coding", host + "Transfer-Encoding: \vchunked\r\n\r\n", ErrFieldValue},
		{"two lengths that agree", host + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", ErrContentLength},
		{"two lengths that differ", host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", ErrContentLength},
		{"length as a list", host + "Content-Length: 5, 5\r\n\r\n", ErrContentLength},
		{"length with plus", host + "Content-Length: +5\r\n\r\n", ErrContentLength},
		{"length with minus", host + "Content-Length: -5\r\n\r\n", ErrContentLength},
		{"length in hex", host + "Content-Length: 0x5\r\n\r\n", ErrContentLength},
		{"empty length", host + "Content-Length:\r\n\r\n", ErrContentLength},
		{"length of 19 digits", host + "Content-Length: 1000000000000000000\r\n\r\n", ErrContentLength},
		{"length with a space inside", host + "Content-Length: 5 5\r\n\r\n", ErrContentLength},
		{"coding identity", host + "Transfer-Encoding: identity\r\n\r\n", ErrTransferCoding},
		{"coding gzip, chunked", host + "Transfer-Encoding: gzip, chunked\r\n\r\n", ErrTransferCoding},
		{"coding chunked twice in a list", host + "Transfer-Encoding: chunked, chunked\r\n\r\n", ErrTransferCoding},
		{"coding xchunked", host + "Transfer-Encoding: xchunked\r\n\r\n", ErrTransferCoding},
		{"empty coding", host + "Transfer-Encoding:\r\n\r\n", ErrTransferCoding},
		{"two codings", host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTransferCoding},
		{"length and coding", host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ErrLengthAndCoding},
		{"coding and length", host + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", ErrLengthAndCoding},
		{"no host", "X-A: a\r\n\r\n", ErrHost},
		{"two hosts", host + host + "\r\n", ErrHost},
		{"host with a comma", "Host: a,b\r\n\r\n", ErrHost},
		{"host with a space", "Host: a b\r\n\r\n", ErrHost},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckRequest([]byte(c.block), true); !errors.Is(err, c.want) {
				t.Errorf("%q: %v, want %v", c.block, err, c.want)
			}
		})
	}
}

func TestCheckRequestOfHTTP10(t *testing.T) {
	for _, c := range []struct {
		name, block string
		want        error
	}{
		{"no fields at all", "", nil},
		{"no host", "Content-Length: 3\r\n\r\n", nil},
		{"two hosts", "Host: a\r\nHost: a\r\n\r\n", ErrHost},
		{"chunked, which it does not know", "Transfer-Encoding: chunked\r\n\r\n", ErrTransferCoding},
		{"folded", "X: a\r\n b\r\n\r\n", ErrFolded},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckRequest([]byte(c.block), false); !errors.Is(err, c.want) {
				t.Errorf("%q: %v, want %v", c.block, err, c.want)
			}
		})
	}
}

func TestCheckRequestAllocatesNothing(t *testing.T) {
	good := []byte("Host: relay\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n")
	bad := []byte("Host: relay\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		_ = CheckRequest(good, true)
		_ = CheckRequest(bad, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFieldsWalkEachLine(t *testing.T) {
	block := "A: 1\r\nB:\t two \t\r\nC:\r\nD: x: y\nE:5\r\n\r\nF: never\r\n"
	var got []string
	for f := NewFields([]byte(block)); f.Next(); {
		got = append(got, string(f.Name)+"="+string(f.Value)+"|"+string(f.Line))
	}
	want := []string{"A=1|A: 1\r\n", "B=two|B:\t two \t\r\n", "C=|C:\r\n", "D=x: y|D: x: y\n", "E=5|E:5\r\n"}
	if strings.Join(got, "§") != strings.Join(want, "§") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFieldsOfAnEmptyBlock(t *testing.T) {
	for _, block := range []string{"", "\r\n", "\n", "no line end"} {
		if f := NewFields([]byte(block)); f.Next() {
			t.Errorf("%q has the field %q", block, f.Name)
		}
	}
}

func TestEqualFoldAndHasToken(t *testing.T) {
	for _, c := range []struct {
		b, s string
		want bool
	}{
		{"Content-Length", "content-length", true}, {"CONTENT-LENGTH", "content-length", true},
		{"content_length", "content-length", false}, {"\x0d", "-", false}, {"@", "`", false}, {"[", "{", false}, {"", "", true},
	} {
		if got := EqualFold([]byte(c.b), c.s); got != c.want {
			t.Errorf("EqualFold(%q, %q) = %t", c.b, c.s, got)
		}
	}
	for _, c := range []struct {
		list, token string
		want        bool
	}{
		{"close", "close", true}, {"keep-alive, Close", "close", true}, {" close\t,", "close", true},
		{"closed", "close", false}, {"not close", "close", false}, {"", "close", false}, {",,", "close", false},
	} {
		if got := HasToken([]byte(c.list), c.token); got != c.want {
			t.Errorf("HasToken(%q, %q) = %t", c.list, c.token, got)
		}
		if got := hasTokenFold([]byte(c.list), []byte(strings.ToUpper(c.token))); got != c.want {
			t.Errorf("hasTokenFold(%q, %q) = %t", c.list, strings.ToUpper(c.token), got)
		}
	}
}
