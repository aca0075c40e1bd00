package configs

// unbuilt is one key that is switched on and does nothing in this version.
type unbuilt struct {
	path    string
	text    string
	refused bool // serve does not start, since the effect would be a wrong one
}

// Unbuilt lists what c switches on that this version does not do, one sentence
// each. With refused ones `relay serve` must not start: it would authenticate
// by, or write to, something else than the operator said. Ignored ones it logs.
func Unbuilt(c *Config) (refused, ignored []string) {
	for _, u := range findUnbuilt(c) {
		sentence := u.path + ": " + u.text
		if u.refused {
			refused = append(refused, sentence)
		} else {
			ignored = append(ignored, sentence)
		}
	}
	return refused, ignored
}

func findUnbuilt(c *Config) []unbuilt {
	var found []unbuilt
	note := func(on bool, path, text string) {
		if on {
			found = append(found, unbuilt{path: path, text: text})
		}
	}
	refuse := func(on bool, path, text string) {
		if on {
			found = append(found, unbuilt{path: path, text: text, refused: true})
		}
	}
	const clickhouse = "writing requests to ClickHouse is not built in this version, and serve does not start with it: remove the key"
	refuse(c.ClickHouse.Address != "", "clickhouse.address", clickhouse)
	refuse(len(c.ClickHouse.Shards) > 0, "clickhouse.shards", clickhouse)

	note(c.RequestLog != Default().RequestLog, "request_log", "not applied in this version: requests are written to the access log and metrics only")
	return found
}
