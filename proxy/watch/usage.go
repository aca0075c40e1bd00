package watch

// Usage is what the provider counted, as it counted: a field that it did not
// name is -1. Input excludes cached tokens with Anthropic and includes them
// everywhere else; Reasoning is a part of Output, also where the provider counts
// it on top. For Gemini, Output is candidates plus thoughts, and Input the prompt
// plus what its own tools put in.
type Usage struct{ Input, Output, Cached, CacheWrite, Reasoning int64 }

// A slot is the place of one count. The order follows the number fields, see
// field.slot.
type slot uint8

const (
	slotInput slot = iota
	slotOutput
	slotCached
	slotCacheWrite
	slotReasoning
	slotCandidates
	slotThoughts
	slotTools
	slotTotal // says how the others are to be read; of one object, see counts.close
	numSlots
)

// counts holds the last value of each slot; has says which were ever named, weak
// which of them only where any better source is believed before.
type counts struct {
	vals      [numSlots]int64
	has, weak uint16
}

// set takes one count.
func (c *counts) set(s slot, v int64) {
	c.vals[s] = v
	c.has |= 1 << s
}

// add adds to one count. No sum is believed that could not be a count.
func (c *counts) add(s slot, v int64) {
	if sum := max(c.get(s), 0) + v; sum <= maxCount {
		c.set(s, sum)
	}
}

// close takes the end of a usage object: what its total says of the other
// counts is applied, and the total forgotten.
func (c *counts) close() {
	// xAI counts reasoning on top of completion_tokens, everybody else within it.
	if total, output, reasoning := c.get(slotTotal), c.get(slotOutput), c.get(slotReasoning); output >= 0 && reasoning > 0 &&
		c.get(slotInput) >= 0 && total == c.vals[slotInput]+output+reasoning {
		c.set(slotOutput, output+reasoning)
	}
	// Embeddings and rankings of some name nothing else: all of it was input.
	const named = 1<<slotInput | 1<<slotOutput | 1<<slotCandidates | 1<<slotThoughts | 1<<slotTools
	if c.has&(1<<slotTotal) != 0 && c.has&named == 0 {
		c.set(slotInput, c.vals[slotTotal])
		c.weak |= 1 << slotInput
	}
	c.has &^= 1 << slotTotal
}

// clear forgets everything.
func (c *counts) clear() { c.has, c.weak = 0, 0 }

// take overwrites with what o names, but not with a weak count one that is not.
// Counts are totals, not steps, with every provider: the last one wins and
// nothing is summed over them.
func (c *counts) take(o *counts) {
	use := o.has &^ (o.weak & c.has &^ c.weak)
	for s := range numSlots {
		if use&(1<<s) != 0 {
			c.vals[s] = o.vals[s]
		}
	}
	c.has |= use
	c.weak = c.weak&^use | o.weak&use
}

func (c *counts) get(s slot) int64 {
	if c.has&(1<<s) == 0 {
		return -1
	}
	return c.vals[s]
}

// usage returns the counts in their public form; false when there are none.
func (c *counts) usage() (Usage, bool) {
	u := Usage{
		Input:      c.get(slotInput),
		Output:     c.get(slotOutput),
		Cached:     c.get(slotCached),
		CacheWrite: c.get(slotCacheWrite),
		Reasoning:  c.get(slotReasoning),
	}
	// Gemini's candidatesTokenCount excludes its thoughtsTokenCount.
	if cand, thoughts := c.get(slotCandidates), c.get(slotThoughts); cand >= 0 || thoughts >= 0 {
		u.Output = max(cand, 0) + max(thoughts, 0)
		if thoughts >= 0 {
			u.Reasoning = thoughts
		}
	}
	// Its promptTokenCount excludes toolUsePromptTokenCount, and both are billed
	// as input.
	if tools := c.get(slotTools); tools >= 0 {
		u.Input = max(u.Input, 0) + tools
	}
	return u, c.has != 0
}
