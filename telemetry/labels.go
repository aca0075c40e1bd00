package telemetry

import (
	"strings"
	"unicode/utf8"
)

const (
	maxModelLabel  = 128 // bytes
	maxTenantLabel = 64

	labelOther = "other" // a value that has no series of its own
	labelNone  = "none"  // there was no such thing: no model named, no upstream chosen
)

// labelText reports whether s may become a label value: not empty, at most max
// bytes of UTF-8 without control characters. Clients choose models and tenants.
func labelText(s []byte, max int) bool {
	if len(s) == 0 || len(s) > max || !utf8.Valid(s) {
		return false
	}
	for _, c := range s {
		if c < 0x20 || c == 0x7f {
			return false
		}
	}
	return true
}

// label returns key="value", escaped as the text format wants it.
func label(key, value string) string {
	if strings.ContainsAny(value, "\\\"\n") {
		value = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value)
	}
	return key + `="` + value + `"`
}

// codes are the statuses that have their own value of the label code. The last
// ones take the rest of their class.
var codes = [...]string{
	"200", "201", "202", "204", "206", "304", "400", "401", "402", "403", "404", "405", "408", "409", "413", "415",
	"422", "426", "429", "431", "499", "500", "501", "502", "503", "504", "529",
	"1xx", "2xx", "3xx", "4xx", "5xx", labelOther,
}

const (
	numCodes   = len(codes)
	numClasses = 6 // the last of codes: 1xx to 5xx and other
)

// codeTable finds the index in codes of a status below 600.
type codeTable [600]uint8

func newCodeTable() *codeTable {
	t := new(codeTable)
	for status := range t {
		t[status] = uint8(numCodes - 1)
		if class := status / 100; class > 0 {
			t[status] = uint8(numCodes - numClasses + class - 1)
		}
	}
	for i, c := range codes[:numCodes-numClasses] {
		t[int(c[0]-'0')*100+int(c[1]-'0')*10+int(c[2]-'0')] = uint8(i)
	}
	return t
}

// index returns the index in codes of status.
func (t *codeTable) index(status int) int {
	if status < 0 || status >= len(t) {
		return numCodes - 1
	}
	return int(t[status])
}

// classIndex returns which of the classes codes[i] belongs to, counted from 0.
func classIndex(i int) int { return class(i) - (numCodes - numClasses) }

// class returns the index in codes of the class that codes[i] belongs to.
func class(i int) int {
	if i >= numCodes-numClasses {
		return i
	}
	return numCodes - numClasses + int(codes[i][0]-'1')
}
