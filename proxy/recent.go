package proxy

// recent remembers values by hashed ids, the latest room of them. Whoever has
// it protects it.
type recent[V any] struct {
	of   map[uint64]V
	ring []uint64 // ids in the order in which they came
	next int
}

// put remembers v under id, in place of what was there.
func (r *recent[V]) put(id uint64, v V, room int) {
	if r.of == nil {
		r.of = make(map[uint64]V)
	}
	if _, known := r.of[id]; !known {
		if len(r.ring) < room {
			r.ring = append(r.ring, id)
		} else {
			delete(r.of, r.ring[r.next])
			r.ring[r.next] = id
			r.next = (r.next + 1) % room
		}
	}
	r.of[id] = v
}
