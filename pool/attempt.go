package pool

import (
	"slices"
	"time"
)

// MaxAttempts bounds the attempts of one exchange.
const MaxAttempts = 10

// Attempt is one exchange's use of an account, from Choose to End. Its owner is
// the exchange; the zero value is an attempt that has ended.
type Attempt struct {
	*Credential
	probe bool
	times int32 // of the circuit's, see failed
}

// Tried is which accounts an exchange has been to. The zero value is none.
type Tried struct {
	n        int
	accounts [MaxAttempts]*Account
}

// Add notes that an attempt at c has failed: Choose leaves its account out.
func (t *Tried) Add(c *Credential) {
	if t.n < MaxAttempts {
		t.accounts[t.n] = c.account
		t.n++
	}
}

// Has reports whether the exchange has been to c's account.
func (t *Tried) Has(c *Credential) bool { return slices.Contains(t.accounts[:t.n], c.account) }

// begin makes c the attempt's, unless its upstream's circuit lets nobody pass.
func (a *Attempt) begin(c *Credential, now int64, always bool) bool {
	probe, ok := c.Upstream.circuit.enter(now)
	if !ok && !always {
		return false
	}
	c.inFlight.Add(1)
	*a = Attempt{c, probe, c.Upstream.circuit.times.Load()}
	return true
}

// Pin makes c the attempt's, whatever its state: what the request refers to is
// with that account and with no other.
func (a *Attempt) Pin(c *Credential, now int64) { a.begin(c, now, true) }

// Answered says that the head of an answer came that is no failure of the
// upstream's.
func (a *Attempt) Answered() {
	if !a.probe {
		return
	}
	a.probe = false
	u := a.Upstream
	a.times = u.circuit.answered() // it may break off yet, which counts
	u.tell(Change{To: StateUp, Why: "the probe was answered"})
}

// Failed counts a failure of the upstream's: no connection, a timeout, a broken
// answer, a status of 500 or above. why goes to the log.
func (a *Attempt) Failed(now int64, why string) {
	u, probe := a.Upstream, a.probe
	a.probe = false
	if opened, d := u.circuit.failed(now, probe, a.times); opened {
		u.tell(Change{To: StateOpen, Why: why, For: d})
	}
}

// Limited says that the account answered 429 for model; after is its
// Retry-After, 0 where it named none. It returns how long the model rests.
func (a *Attempt) Limited(model uint64, now int64, after time.Duration) time.Duration {
	acc := a.account
	before := acc.restsUntil(model)
	if after <= 0 {
		if before > now { // others were told at the same time
			return time.Duration(before - now)
		}
		after = backoff(firstLimit, longestLimit, acc.limits.Add(1)-1)
	}
	after = min(after, longestRest)
	if until := now + int64(after); until > before {
		acc.rest(model, until)
	}
	if before <= now {
		a.Upstream.tell(Change{Credential: a.Name, To: StateResting, Why: "429", For: after})
	}
	return after
}

// Refused says that the provider did not take the credential.
func (a *Attempt) Refused(now int64, why string) {
	acc := a.account
	before := acc.refusedUntil.Load()
	if before > now { // others were told at the same time
		return
	}
	d := backoff(firstRefusal, longestRefusal, acc.refusals.Load())
	if acc.refusedUntil.CompareAndSwap(before, now+int64(d)) {
		acc.refusals.Add(1)
		a.Upstream.tell(Change{Credential: a.Name, To: StateRefused, Why: why, For: d})
	}
}

// Forbidden says that the provider answered 403. That may be the fault of what
// was sent: only several in a row, with nothing that went well between them,
// are taken for a refusal of the credential.
func (a *Attempt) Forbidden(now int64) {
	if acc := a.account; acc.refusals.Load() > 0 || acc.forbidden.Add(1) >= forbiddenInARow {
		a.Refused(now, "403")
	}
}

// End ends the attempt; well says that the exchange went well to its end. A
// second call does nothing.
func (a *Attempt) End(well bool) {
	c := a.Credential
	if c == nil {
		return
	}
	if a.probe { // nobody learnt anything: the next one may
		c.Upstream.circuit.probing.Store(false)
	}
	c.inFlight.Add(-1)
	if well {
		c.Upstream.circuit.well()
		acc := c.account
		if acc.refusals.Load() != 0 && acc.refusals.Swap(0) != 0 {
			acc.refusedUntil.Store(0)
			c.Upstream.tell(Change{Credential: c.Name, To: StateUp, Why: "it was accepted"})
		}
		if acc.forbidden.Load() != 0 {
			acc.forbidden.Store(0)
		}
		if acc.limits.Load() != 0 {
			acc.limits.Store(0)
		}
	}
	*a = Attempt{}
}
