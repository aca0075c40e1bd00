package proxy

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/auth/limits"
	"streamrelay/telemetry"
)

// admitted asks the limits of key and tenant whether the request may go on, and
// reserves what it may cost. What is granted is settled by finish.
func (x *exchange) admitted() *apiError {
	if x.srv.admission == nil {
		return nil
	}
	a := &x.adm
	ask := limits.Ask{MaxTokens: -1, Model: x.priced()}
	if x.bill != billUsage {
		ask.MaxTokens = 0
	} else if a.body == bodyHeld {
		ask.BodyBytes, ask.MaxTokens = int64(len(x.held.B)), x.req.MaxTokens
	}
	refusal, ok := x.srv.admission(&x.grant, a.rec, a.tenant, &ask)
	if ok {
		return nil
	}
	x.refusal = refusal
	x.srv.tel.RateLimited(limitReasons[refusal.Kind])
	e := &apiError{
		status: 429, typ: refusal.Type(), code: refusal.Code(), message: refusal.Message(), end: telemetry.Limited,
		retryAfter: int(min(max((refusal.Retry+time.Second-1)/time.Second, 1), 366*24*3600)),
	}
	if refusal.Quota {
		e.retry = "false"
	}
	return e
}

var limitReasons = [...]telemetry.LimitReason{
	limits.Requests: telemetry.LimitRequests, limits.Tokens: telemetry.LimitTokens, limits.Concurrency: telemetry.LimitConcurrency,
	limits.BudgetDay: telemetry.LimitBudget, limits.BudgetMonth: telemetry.LimitBudget,
}

// priced is the model's name that prices go by: the upstream's.
func (x *exchange) priced() []byte {
	if x.owedWork != nil {
		return []byte(x.owedWork.priced)
	}
	if x.to.alias != nil {
		return x.to.alias
	}
	return x.obs.Model
}

// settle gives back what the request did not use. What no provider has seen
// costs nothing, an answer that is an error only the request: providers count
// those, too. A stream that broke off costs what was relayed of it, where that is
// more than what its beginning named.
func (x *exchange) settle() {
	x.owe()
	if x.srv.admission == nil {
		return
	}
	o := &x.obs
	if o.UpstreamStatus >= 400 {
		x.grant.Settle(&limits.Outcome{Sent: x.sent != 0, Known: true})
		return
	}
	output, partial := o.Usage.Output, o.UsageSource == telemetry.UsagePartial
	if partial {
		output = max(output, o.ContentEvents)
	}
	x.grant.Settle(&limits.Outcome{
		Sent:  x.sent != 0,
		Known: o.UsageSource != telemetry.UsageUnknown || x.bill != billUsage, Partial: partial,
		Input: o.Usage.Input - x.paid, Output: output, Cached: o.Usage.Cached, CacheWrite: o.Usage.CacheWrite,
		InputExcludesCached: x.adm.target.dialect == dialectAnthropic,
		Events:              o.ContentEvents,
		Model:               x.priced(),
	})
}

// writeHeadroom puts what is left of the limits per minute into the answer's
// head, as the path's dialect has it: OpenAI's x-ratelimit-*, Anthropic's
// anthropic-ratelimit-*.
func (x *exchange) writeHeadroom(h *fasthttp.ResponseHeader) {
	if x.srv.admission == nil {
		return
	}
	room := x.grant.Headroom()
	if x.refusal.Kind == limits.Requests {
		room.LimitRequests, room.RemainingRequests, room.ResetRequests = x.refusal.Limit, x.refusal.Remaining, x.refusal.Reset
	} else if x.refusal.Kind == limits.Tokens {
		room.LimitTokens, room.RemainingTokens, room.ResetTokens = x.refusal.Limit, x.refusal.Remaining, x.refusal.Reset
	}
	names := &openAILimits
	if x.adm.target.dialect == dialectAnthropic {
		names = &anthropicLimits
	}
	if room.LimitRequests > 0 {
		names.requests.write(h, room.LimitRequests, room.RemainingRequests, room.ResetRequests)
	}
	if room.LimitTokens > 0 {
		names.tokens.write(h, room.LimitTokens, room.RemainingTokens, room.ResetTokens)
	}
}

// limitFields are the names of the fields about one limit.
type limitFields struct {
	limit, remaining, reset string
	date                    bool // reset is a time (RFC 3339), else a duration
}

type limitNames struct{ requests, tokens limitFields }

var (
	openAILimits = limitNames{
		limitFields{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests", false},
		limitFields{"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens", false},
	}
	anthropicLimits = limitNames{
		limitFields{"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset", true},
		limitFields{"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset", true},
	}
)

func (f *limitFields) write(h *fasthttp.ResponseHeader, limit, remaining int64, reset time.Duration) {
	var b [40]byte
	h.SetBytesV(f.limit, strconv.AppendInt(b[:0], limit, 10))
	h.SetBytesV(f.remaining, strconv.AppendInt(b[:0], max(remaining, 0), 10))
	if f.date {
		h.SetBytesV(f.reset, time.Now().Add(reset).UTC().AppendFormat(b[:0], time.RFC3339))
	} else {
		h.SetBytesV(f.reset, limits.AppendReset(b[:0], reset))
	}
}

// EndRevoked ends the exchanges under way whose key has been revoked, disabled
// or taken out. It waits for nothing.
func (s *Server) EndRevoked() {
	for _, c := range s.watcher.all() {
		c.endIfRevoked()
	}
}
