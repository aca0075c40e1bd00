package load

import "testing"

func TestFewPartsHaveNoInterval(t *testing.T) {
	for _, n := range []int{1, leastParts - 1, leastParts, 20} {
		var ours, theirs []*sample
		for i := range n {
			x, y := &sample{}, &sample{}
			x.add(int64(5e6 + i*1e5))
			y.add(2e6)
			ours, theirs = append(ours, x), append(theirs, y)
		}
		v := bootstrap(ours, theirs).P50
		if v.Known != (n >= leastParts) || v.Value < 0.003 || v.Known && !(v.Low < v.Value && v.Value < v.High) || !v.Known && (v.Low != 0 || v.High != 0) {
			t.Errorf("%d parts: %+v", n, v)
		}
	}
}
