package pool

import "time"

// Change is a change of an upstream's state, or of one of its credentials.
type Change struct {
	Upstream   string
	Credential string // "": the upstream's own
	To         State
	Why        string
	For        time.Duration // how long at least; 0: until something else is said
}

// tell hands a change to whoever listens.
func (u *Upstream) tell(c Change) {
	if u.onChange != nil {
		c.Upstream = u.Name
		u.onChange(c)
	}
}

// allows reports whether an exchange may go to the upstream.
func (u *Upstream) allows(now int64) bool { return !u.down.Load() && u.circuit.allows(now) }

// State returns how the upstream stands at now (unix ns).
func (u *Upstream) State(now int64) State {
	if u.down.Load() {
		return StateDown
	}
	return u.circuit.state(now)
}

// State returns how the credential stands at now (unix ns).
func (c *Credential) State(now int64) State {
	if c.account.refusedUntil.Load() > now {
		return StateRefused
	}
	if n, _ := c.account.longestRestNow(now); n > 0 {
		return StateResting
	}
	return StateUp
}

// InFlight returns how many attempts at the credential are under way.
func (c *Credential) InFlight() int64 { return c.inFlight.Load() }

// Status is what an operator wants to know of an upstream. Seconds count from
// when it was made.
type Status struct {
	Name        string             `json:"name"`
	Dialect     string             `json:"dialect"`
	Host        string             `json:"host"`
	Priority    int                `json:"priority"`
	Weight      int                `json:"weight"`
	State       State              `json:"state"`
	ForSeconds  float64            `json:"for_seconds,omitempty"` // how long the circuit stays open
	Failures    int32              `json:"failures"`              // in a row
	HealthCheck string             `json:"health_check,omitempty"`
	InFlight    int64              `json:"in_flight"`
	Connections int                `json:"connections"`
	Idle        int                `json:"idle"`
	Credentials []CredentialStatus `json:"credentials"`
}

// CredentialStatus is a credential's part of Status; never its value.
type CredentialStatus struct {
	Name          string  `json:"name"`
	State         State   `json:"state"`
	ForSeconds    float64 `json:"for_seconds,omitempty"`
	ModelsResting int     `json:"models_resting"`
	InFlight      int64   `json:"in_flight"`
}

// Status returns the upstream's at now (unix ns).
func (u *Upstream) Status(now int64) Status {
	s := Status{
		Name: u.Name, Dialect: string(u.Dialect), Host: u.Host, Priority: u.Priority, Weight: u.Weight,
		State: u.State(now), ForSeconds: seconds(u.circuit.until.Load() - now), Failures: u.circuit.failures.Load(),
	}
	if why := u.unhealthy.Load(); why != nil {
		s.HealthCheck = *why
	}
	s.Connections, s.Idle = u.Connections()
	for _, c := range u.Credentials {
		models, until := c.account.longestRestNow(now)
		cs := CredentialStatus{
			Name: c.Name, State: c.State(now), ModelsResting: models, InFlight: c.InFlight(),
			ForSeconds: seconds(max(until, c.account.refusedUntil.Load()) - now),
		}
		s.InFlight += cs.InFlight
		s.Credentials = append(s.Credentials, cs)
	}
	return s
}

func seconds(ns int64) float64 { return max(time.Duration(ns).Seconds(), 0) }
