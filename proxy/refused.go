package proxy

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/proxy/h1"
	"streamrelay/proxy/watch"
)

// A refusal of which it is to be seen whom it concerns is read before its head
// leaves: no more of it than this, and for no longer.
const (
	maxRefused  = 8 << 10
	maxUnpacked = 64 << 10 // of its text
	refusedTime = 5 * time.Second
)

// interpret says what the answer's status means for the account, and whether
// its text is withheld from the client, since it speaks of the relay's
// credential.
//
// Gemini and xAI say 400 of a key that is not valid, where others say 401; and
// xAI shows how it begins and ends.
func (x *exchange) interpret(noBody bool) *apiError {
	x.means, x.withheld = x.head.Status, x.head.Status == fasthttp.StatusUnauthorized
	if x.means != fasthttp.StatusBadRequest || noBody {
		return nil
	}
	text, _, e := x.refusalText()
	if e == nil && keyNotValid(text) {
		x.means, x.withheld = fasthttp.StatusUnauthorized, true
	}
	return e
}

// mayShow reports whether a 403 that is to be given to the client is the
// client's to read. Some say it of an account, perhaps with its key in the text,
// and others of what the client sent: OpenRouter and xAI of flagged input, Gemini
// of a file that the account does not have. It must be JSON and show nothing of
// the credential.
func (x *exchange) mayShow() (bool, *apiError) {
	if x.head.NoBody(x.ctx.IsHead()) || !jsonType(x.head.ContentType) {
		return false, nil
	}
	text, whole, e := x.refusalText()
	return whole && !x.try.Credential.ShownIn(text), e
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

// refusalText reads the answer's body, of which the client then gets every byte
// as it came, and returns its text. whole: it is all of it.
func (x *exchange) refusalText() (text []byte, whole bool, e *apiError) {
	if x.head.ContentLength > maxRefused {
		return nil, false, nil
	}
	tooLong := func() bool { return x.early != nil && len(x.early.B) > maxRefused }
	if e := x.readEarly(x.srv.now()+int64(refusedTime), tooLong); e != nil {
		if x.interrupted() != arrivedBytes || e == errTotalTimeout {
			return nil, false, e
		}
		x.lateFailure = e // the status holds; the client is told where the text breaks off
		return nil, false, nil
	}
	if x.early == nil || !x.ans.over || tooLong() {
		return nil, false, nil
	}
	coding := x.head.ContentEncoding
	if len(coding) == 0 || h1.EqualFold(coding, "identity") {
		return x.early.B, true, nil
	}
	z := watch.Inflate{Limit: maxUnpacked}
	if !z.Start(string(bytes.ToLower(coding)), func(p []byte, _ int64) { text = append(text, p...) }) {
		return nil, false, nil
	}
	z.Write(x.early.B, 0)
	return text, z.Close() == nil, nil
}
