package peek

import (
	"strings"
	"testing"
)

func TestBoundary(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"token", `multipart/form-data; boundary=abc`, "abc"},
		{"quoted", `multipart/form-data; boundary="a b:c"`, "a b:c"},
		{"no space", `multipart/form-data;boundary=abc`, "abc"},
		{"odd space and case", "Multipart/Form-Data \t;  BOUNDARY = abc ;", "abc"},
		{"after others", `multipart/form-data; charset="utf-8"; boundary=abc; x=y`, "abc"},
		{"a browser's", `multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW`, "----WebKitFormBoundary7MA4YWxkTrZu0gW"},
		{"Java's, no token", `multipart/form-data; boundary=----=_Part_5_1.2`, "----=_Part_5_1.2"},
		{"70 bytes", `multipart/form-data; boundary=` + strings.Repeat("b", 70), strings.Repeat("b", 70)},
		{"71 bytes", `multipart/form-data; boundary=` + strings.Repeat("b", 71), ""},
		{"none", `multipart/form-data`, ""},
		{"empty", `multipart/form-data; boundary=`, ""},
		{"empty, quoted", `multipart/form-data; boundary=""`, ""},
		{"twice", `multipart/form-data; boundary=a; boundary=a`, ""},
		{"encoded beside", `multipart/form-data; boundary=a; boundary*=utf-8''b`, ""},
		{"space at the end", `multipart/form-data; boundary="a "`, ""},
		{"escaped", `multipart/form-data; boundary="a\b"`, ""},
		{"cut quote", `multipart/form-data; boundary="a`, ""},
		{"two words", `multipart/form-data; boundary=a b`, ""},
		{"a comma", `multipart/form-data; boundary=a,b`, "a,b"},
		{"two values", `multipart/form-data; boundary=a, multipart/form-data; boundary=b`, ""},
		{"a fault after it", `multipart/form-data; boundary=a; =`, ""},
		{"another type", `multipart/mixed; boundary=a`, ""},
		{"JSON", `application/json; boundary=a`, ""},
		{"nothing", ``, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Boundary([]byte(tt.value))
			if string(got) != tt.want && ok || ok != (tt.want != "") {
				t.Errorf("Boundary(%q) = %q, %t; want %q", tt.value, got, ok, tt.want)
			}
		})
	}
}

// formPart is a part with its delimiter; a header's line break is written |.
func formPart(headers, content string) string {
	return "--b\r\n" + strings.ReplaceAll(headers, "|", "\r\n") + "\r\n\r\n" + content + "\r\n"
}

const (
	modelHeader = `Content-Disposition: form-data; name="model"`
	fileHeader  = `Content-Disposition: form-data; name="file"; filename="a.wav"|Content-Type: audio/wav`
)

func TestFormModel(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"alone", formPart(modelHeader, "whisper-1") + "--b--\r\n", "whisper-1 found"},
		{"no line break at the end", formPart(modelHeader, "whisper-1") + "--b--", "whisper-1 found"},
		{"before another part", formPart(modelHeader, "m") + formPart(fileHeader, "RIFF"), "m found"},
		{"after others", formPart(`Content-Disposition: form-data; name="language"`, "en") + formPart(fileHeader, "\r\n--\x00\r\n\r\n") + formPart(modelHeader, "m") + "--b--", "m found"},
		{"after an empty part", formPart(`Content-Disposition: form-data; name="x"`, "") + formPart(modelHeader, "m") + "--b--", "m found"},
		{"name as a token", formPart(`Content-Disposition: form-data; name=model`, "m") + "--b--", "m found"},
		{"odd space and case", formPart("CONTENT-DISPOSITION:\tForm-Data ;NAME = \"model\" ;", "m") + "--b--", "m found"},
		{"folded", formPart("Content-Disposition: form-data;|\tname=\"model\"", "m") + "--b--", "m found"},
		{"other headers", formPart("Content-Type: text/plain; charset=utf-8|"+modelHeader+"|Content-Length: 1|Content-Transfer-Encoding: 8bit", "m") + "--b--", "m found"},
		{"a line break first", "\r\n" + formPart(modelHeader, "m") + "--b--", "m found"},
		{"blanks after the boundary", "--b \t\r\n" + modelHeader + "\r\n\r\nm\r\n--b \t\r\n", "m found"},
		{"UTF-8", formPart(modelHeader, "模型") + "--b--", "模型 found"},
		{"256 bytes", formPart(modelHeader, strings.Repeat("m", 256)) + "--b--", strings.Repeat("m", 256) + " found"},
		{"a file name with a backslash", formPart(`Content-Disposition: form-data; name="file"; filename="C:\a.wav"`, "") + formPart(modelHeader, "m") + "--b--", "m found"},
		{"a value like a boundary", formPart(modelHeader, "--c") + "--b--", "--c found"},

		{"nothing yet", "", "more"},
		{"part of the boundary", "--", "more"},
		{"the boundary alone", "--b", "more"},
		{"half a header", "--b\r\nContent-Disposition: form-da", "more"},
		{"half a value", "--b\r\n" + modelHeader + "\r\n\r\nwhis", "more"},
		{"a value, not its end", "--b\r\n" + modelHeader + "\r\n\r\nwhisper-1\r\n--b", "more"},
		{"half of the last dashes", "--b\r\n" + modelHeader + "\r\n\r\nwhisper-1\r\n--b-", "more"},
		{"a file still coming", formPart(fileHeader, strings.Repeat("x", 10<<10)), "more"},

		{"half of a line break", "\r", "more"},
		{"a preamble", "This is a form.\r\n" + formPart(modelHeader, "m") + "--b--", "no"},
		{"a preamble of JSON", "{\"model\":\"x\"}\r\n" + formPart(modelHeader, "m") + "--b--", "no"},
		{"a name in pieces", formPart(`Content-Disposition: form-data; name="x"; name*0="mod"; name*1="el"`, "x") + formPart(modelHeader, "m") + "--b--", "no"},
		{"a name in encoded pieces", formPart(`Content-Disposition: form-data; name="x"; NAME*0*=mod; name*1=el`, "x") + formPart(modelHeader, "m") + "--b--", "no"},
		{"a file name encoded", formPart(`Content-Disposition: form-data; name="file"; filename*=UTF-8''a.wav`, "x") + formPart(modelHeader, "m") + "--b--", "m found"},

		{"a large file first", formPart(fileHeader, strings.Repeat("x", 1<<20)) + formPart(modelHeader, "m") + "--b--", "m found"},
		{"a form without it", formPart(fileHeader, "x") + "--b--", "no"},
		{"an empty form", "--b--", "no"},
		{"another boundary first", "--bb\r\n" + modelHeader + "\r\n\r\nm\r\n--bb--", "no"},
		{"257 bytes", formPart(modelHeader, strings.Repeat("m", 257)) + "--b--", "no"},
		{"an endless value", "--b\r\n" + modelHeader + "\r\n\r\n" + strings.Repeat("m", 300), "no"},
		{"a value of two lines", formPart(modelHeader, "a\r\nb") + "--b--", "no"},
		{"invalid UTF-8", formPart(modelHeader, "\xff") + "--b--", "no"},
		{"a value run into a longer boundary", formPart(modelHeader, "m") + "--bc\r\n", "no"},
		{"bare line feeds", strings.ReplaceAll(formPart(modelHeader, "m")+"--b--", "\r\n", "\n"), "no"},
		{"a bare line feed in a header", formPart("X: a\n"+modelHeader, "m") + "--b--", "no"},
		{"a header without a colon", formPart("X|"+modelHeader, "m") + "--b--", "no"},
		{"space before the colon", formPart(`Content-Disposition : form-data; name="model"`, "m") + "--b--", "no"},
		{"no headers", "--b\r\n\r\nx\r\n" + formPart(modelHeader, "m") + "--b--", "no"},
		{"no disposition", formPart("Content-Type: text/plain", "x") + formPart(modelHeader, "m") + "--b--", "no"},
		{"an attachment", formPart(`Content-Disposition: attachment; name="model"`, "m") + "--b--", "no"},
		{"no name", formPart(`Content-Disposition: form-data`, "x") + formPart(modelHeader, "m") + "--b--", "no"},
		{"two names", formPart(`Content-Disposition: form-data; name="x"; name="model"`, "m") + "--b--", "no"},
		{"an encoded name", formPart(`Content-Disposition: form-data; name="model"; name*=utf-8''x`, "m") + "--b--", "no"},
		{"two dispositions", formPart(modelHeader+"|"+modelHeader, "m") + "--b--", "no"},
		{"a file called model", formPart(`Content-Disposition: form-data; name="model"; filename="x"`, "m") + "--b--", "no"},
		{"Model", formPart(`Content-Disposition: form-data; name="Model"`, "m") + formPart(modelHeader, "n") + "--b--", "no"},
		{"an escaped name", formPart(`Content-Disposition: form-data; name="mod\el"`, "m") + formPart(modelHeader, "n") + "--b--", "no"},
		{"an escaped quote", formPart(`Content-Disposition: form-data; name="x"; filename="\"; name=\"model"`, "m") + "--b--", "no"},
		{"base64", formPart(modelHeader+"|Content-Transfer-Encoding: base64", "bQ==") + "--b--", "no"},
		{"quoted-printable", formPart("Content-Transfer-Encoding: Quoted-Printable|"+modelHeader, "=6d") + "--b--", "no"},
		{"a part without content", "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n--b\r\n" + modelHeader + "\r\n\r\nm\r\n--b--", "no"},
		{"a part without a blank line", "--b\r\nX: y\r\n" + formPart(modelHeader, "m") + "--b--", "no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := formSays([]byte(tt.body), "b"); got != tt.want {
				t.Errorf("FormModel = %s, want %s", got, tt.want)
			}
			// However the bytes come, the answer is the same, and a prefix never denies what the whole finds.
			for n := range min(len(tt.body), 400) {
				got := formSays([]byte(tt.body)[:n], "b")
				if got != "more" && got != tt.want {
					t.Fatalf("after %d bytes FormModel = %s, in the end %s", n, got, tt.want)
				}
			}
		})
	}
}

func TestFormModelWithoutBoundary(t *testing.T) {
	body := []byte(formPart(modelHeader, "m") + "--b--")
	for _, boundary := range []string{"", strings.Repeat("b", 71)} {
		if got := formSays(body, boundary); got != "no" {
			t.Errorf("boundary %q: %s, want no", boundary, got)
		}
	}
}

func formSays(body []byte, boundary string) string {
	model, _, found, more := FormModel(body, []byte(boundary))
	switch {
	case found && !more:
		return string(model) + " found"
	case more && !found && model == nil:
		return "more"
	case !more && !found && model == nil:
		return "no"
	}
	return "contradiction"
}

func TestASecondModelIsFoundHoweverTheFormComes(t *testing.T) {
	model, file := formPart(modelHeader, "m"), formPart(fileHeader, strings.Repeat("x\r\n--\r\n-", 3000))
	prompt := formPart(`Content-Disposition: form-data; name="prompt"`, "a model")
	for _, c := range []struct {
		name, rest string // behind the first model
		one        bool
	}{
		{"nothing", "--b--", true},
		{"a file", file + "--b--\r\n", true},
		{"fields and a file", prompt + file + prompt + "--b--\r\nepilogue", true},
		{"an empty field", formPart(`Content-Disposition: form-data; name="x"`, "") + "--b--", true},
		{"not its end yet", file, true},
		{"another model", model + "--b--", false},
		{"another behind a file", file + prompt + model + "--b--", false},
		{"a file called model", formPart(`Content-Disposition: form-data; name="model"; filename="x"`, "n") + "--b--", false},
		{"one that is written oddly", formPart(`Content-Disposition: form-data; name="mod\el"`, "n") + "--b--", false},
		{"behind half a line break", formPart(fileHeader, "x\n--b\nContent-Disposition: form-data; name=\"model\"\n\nn") + "--b--", false},
		{"an endless head", "--b\r\nX: " + strings.Repeat("x", 1<<14), false},
		{"a head without a disposition", "--b\r\nX: y\r\n\r\nx\r\n--b--", false},
		{"in the epilogue", "--b--\r\n" + model, true},
	} {
		whole := "\r\n" + c.rest
		for _, size := range []int{1, 2, 7, 1000, len(whole)} {
			if size == 1 && len(whole) > 1<<15 {
				size = 3
			}
			w := NewFormWatch([]byte("b"))
			one := true
			for p := []byte(whole); len(p) > 0; p = p[min(size, len(p)):] {
				one = w.Feed(p[:min(size, len(p))])
				if len(w.keep) > maxPartHead+size {
					t.Fatalf("%s: keeps %d bytes", c.name, len(w.keep))
				}
			}
			if one != c.one {
				t.Errorf("%s in pieces of %d: %t", c.name, size, one)
			}
		}
	}
}
