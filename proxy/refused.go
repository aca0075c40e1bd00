package proxy

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/proxy/h1"
	"streamrelay/proxy/watch"
)

// A refusal of which it is to be seen whom it concerns is read before its head
// leaves: of no more than this, and for no longer.
const (
	maxRefused  = 8 << 10
	maxUnpacked = 64 << 10 // of its text
	refusedTime = 5 * time.Second
)

// lookIntoRefusal says what an answer of 4xx means for the account, and whether
// its text is withheld from the client, since it speaks of the relay's
// credential.
//
// 403 is what some say of an account, perhaps with its key in the text, and
// others of what the client sent: OpenRouter and xAI of flagged input, Gemini of
// a file that the account does not have. It is the client's to read where it is
// JSON and shows nothing of the credential.
//
// Gemini and xAI say 400 of a key that is not valid, where others say 401; and
// xAI shows how it begins and ends.
func (x *exchange) lookIntoRefusal(noBody bool) *apiError {
	switch {
	case x.means == fasthttp.StatusUnauthorized:
		x.withheld = true
		return nil
	case x.means == fasthttp.StatusForbidden:
		x.withheld = true // unless it proves harmless
	case x.means != fasthttp.StatusBadRequest:
		return nil
	}
	if noBody || x.head.ContentLength > maxRefused {
		return nil
	}
	tooLong := func() bool { return x.early != nil && len(x.early.B) > maxRefused }
	if e := x.readEarly(x.srv.now()+int64(refusedTime), tooLong); e != nil || !x.ans.over || tooLong() {
		return e
	}
	text, whole := x.refusalText()
	if x.means == fasthttp.StatusForbidden {
		x.withheld = !whole || !jsonType(x.head.ContentType) || x.try.Credential.ShownIn(text)
	} else if keyNotValid(text) {
		x.means, x.withheld = fasthttp.StatusUnauthorized, true
	}
	return nil
}

// keyNotValid reports whether a provider's error says so. Within what it repeats
// of the client's text, quotes are escaped.
func keyNotValid(text []byte) bool {
	if bytes.Contains(text, []byte(`"API_KEY_INVALID"`)) {
		return true
	}
	for _, said := range [...]string{`"API key not valid.`, `"Incorrect API key provided`} {
		at := bytes.Index(text, []byte(said))
		if at > 0 && (text[at-1] == ':' || text[at-1] == ' ') {
			return true
		}
	}
	return false
}

// refusalText is the text of a body that was read early. whole: it is all of it.
func (x *exchange) refusalText() (text []byte, whole bool) {
	if x.early == nil {
		return nil, true
	}
	coding := x.head.ContentEncoding
	if len(coding) == 0 || h1.EqualFold(coding, "identity") {
		return x.early.B, true
	}
	z := watch.Inflate{Limit: maxUnpacked}
	if !z.Start(string(bytes.ToLower(coding)), func(p []byte, _ int64) { text = append(text, p...) }) {
		return nil, false
	}
	z.Write(x.early.B, 0)
	return text, z.Close() == nil
}
