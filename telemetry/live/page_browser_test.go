package live

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

func TestThePageInABrowser(t *testing.T) {
	b := startBrowser(t)

	t.Run("numbers change under load and then agree with the metrics", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", "")
		p := b.open(t, s.server.URL+"/", "light", 1440, 1000)
		p.until(`document.querySelector("#link").textContent === "live"`)
		p.until(`document.querySelector("#rows .empty")?.textContent === "No request has ended yet."`)
		for i := range 500 {
			s.observe(func(r *telemetry.Request) {
				r.End = telemetry.EndReason(i * i % numEnds)
				if i%10 != 0 {
					r.End = telemetry.Completed
				}
				r.Tenant = fmt.Appendf(nil, "tenant-%d", i%3)
			})
			if i == 250 {
				p.until(`parseInt(document.querySelector("#tiles .sub").textContent) > 0`)
			}
		}
		requests := s.metrics("relay_requests_total")
		p.until(fmt.Sprintf(`document.querySelector("#tiles .sub").textContent === "%.0f since the start"`, requests))
		for i := range numEnds {
			end := telemetry.EndReason(i).String()
			n := s.metrics("relay_end_reasons_total", `"`+end+`"`)
			shown := p.text(`[...document.querySelectorAll("#ends tbody tr")].find((r) => r.cells[0].textContent === "` + end + `")?.cells[2].textContent ?? "0"`)
			if strings.ReplaceAll(shown, ",", "") != fmt.Sprintf("%.0f", n) {
				t.Errorf("%s: %s on the page, %v in the metrics", end, shown, n)
			}
		}
		for i := range 3 {
			tenant := fmt.Sprintf("tenant-%d", i)
			n := s.metrics("relay_tenant_requests_total", `"`+tenant+`"`)
			if shown := p.text(`[...document.querySelectorAll("#tenants tbody tr")].find((r) => r.cells[0].textContent === "` + tenant + `")?.cells[5].textContent`); shown != fmt.Sprintf("%.0f", n) {
				t.Errorf("%s: %s on the page, %v in the metrics", tenant, shown, n)
			}
		}
		// What is wrong is said in words.
		p.until(`document.querySelector("#problems").innerText.includes("Credential 1 of alpha is refused")`)
		p.until(`document.querySelector("#problems").innerText.includes("ClickHouse ch1:9000 is not there")`)
		silent(t, p)
	})

	t.Run("the filter narrows the rows and stands in the fragment", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", "")
		for i := range 40 {
			s.observe(func(r *telemetry.Request) {
				r.Tenant = fmt.Appendf(nil, "tenant-%d", i%4)
				if i%8 == 0 {
					r.End, r.Status = telemetry.UpstreamStatus, 503
				}
			})
		}
		p := b.open(t, s.server.URL+"/", "light", 1440, 1000)
		rows := func(n int) {
			t.Helper()
			p.until(fmt.Sprintf(`document.querySelectorAll("#rows tbody tr").length === %d && !document.querySelector("#rows .empty")`, n))
		}
		rows(40)
		p.eval(`q.focus()`, nil)
		p.do("Input.insertText", map[string]string{"text": "TENANT-1"})
		rows(10)
		p.do("Input.insertText", map[string]string{"text": " -503 chat"})
		rows(10)
		p.eval(`(show.value = "failed", show.dispatchEvent(new Event("change")))`, nil)
		p.until(`document.querySelector("#rows .empty")?.textContent === "No request matches the filter."`)
		p.eval(`(q.value = "tenant-0", q.dispatchEvent(new Event("input")))`, nil)
		rows(5)
		if hash := p.text("location.hash"); hash != "#q=tenant-0&show=failed" {
			t.Errorf("the fragment is %q", hash)
		}
		p.do("Page.reload", nil)
		p.loaded()
		rows(5)
		if shown := p.text(`q.value + " " + show.value`); shown != "tenant-0 failed" {
			t.Errorf("after a reload the filter is %q", shown)
		}
		p.eval(`pause.click()`, nil)
		s.observe(func(r *telemetry.Request) {
			r.End, r.Status, r.Tenant = telemetry.UpstreamCut, 200, []byte("tenant-0")
		})
		p.until(`document.querySelector("#tiles .sub").textContent.startsWith("41 ")`)
		rows(5)
		p.eval(`pause.click()`, nil)
		rows(6)
		silent(t, p)
	})

	t.Run("names of clients are text", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", "")
		for _, name := range hostile {
			s.observe(func(r *telemetry.Request) { r.Model, r.Tenant, r.RequestID = []byte(name), []byte(name), []byte(name) })
		}
		p := b.open(t, s.server.URL+"/", "light", 390, 844)
		p.until(fmt.Sprintf(`document.querySelectorAll("#rows tbody tr").length === %d && !document.querySelector("#rows .empty")`, len(hostile)))
		var shown []string
		p.eval(`[...document.querySelectorAll("#rows tbody tr, #models tbody tr, #tenants tbody tr")].map((r) => r.textContent)`, &shown)
		for _, name := range hostile[:4] {
			if !slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(s, name) }) {
				t.Errorf("not shown as it is: %s", name)
			}
		}
		if n := p.text(`document.querySelectorAll("main img, main script, main iframe, main a").length + document.title`); n != "0Stream Relay" {
			t.Errorf("elements that are not the page's: %s", n)
		}
		if wide := p.text(`document.documentElement.scrollWidth - innerWidth`); wide != "0" {
			t.Errorf("on a phone the page is %s pixels wider than the screen", wide)
		}
		silent(t, p)
	})

	t.Run("it survives a restart of the relay", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", "")
		addr := s.server.Listener.Addr().String()
		s.observe(func(r *telemetry.Request) { r.Model = []byte("before") })
		p := b.open(t, "http://"+addr+"/", "dark", 1000, 800)
		p.until(`document.querySelector("#rows").innerText.includes("before")`)
		silent(t, p)
		s.end()
		p.until(`document.querySelector("#link").textContent.startsWith("reconnecting") && document.querySelector("#problems").textContent.startsWith("The relay does not answer")`)
		s = startSite(t, addr, "")
		s.observe(func(r *telemetry.Request) { r.Model = []byte("after") })
		p.until(`document.querySelector("#link").textContent === "live" && document.querySelector("#rows").innerText.includes("after")`)
		if !strings.Contains(p.text(`document.querySelector("#rows").innerText`), "before") {
			t.Error("the rows of before are gone")
		}
		p.said() // the browser's own words about a connection that was refused
	})

	t.Run("a second without the relay is a gap", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", "")
		p := b.open(t, s.server.URL+"/", "light", 800, 600)
		var got [][]*float64
		p.eval(`import("/live/charts.js").then(({ History }) => {
			const h = new History();
			h.merge({ from: 1000, seconds: 2, columns: { requests: [5, 6], ttft_p50: [0.1, null] } });
			h.merge({ from: 1004, seconds: 1, columns: { requests: [7] } });
			h.merge({ from: 0, seconds: 0, columns: {} });
			h.put(1005, { requests: 8, ttft_p50: 0.2 });
			return h.view(["requests", "ttft_p50"], 6, 1005);
		})`, &got)
		b, err := json.Marshal(got)
		if want := `[[1000,1001,1002,1003,1004,1005],[5,6,null,null,7,8],[0.1,null,null,null,null,0.2]]`; err != nil || string(b) != want {
			t.Errorf("the view is %s, want %s", b, want)
		}
	})

	t.Run("it asks for the token and keeps it out of the URL", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, "", testToken)
		p := b.open(t, s.server.URL+"/#range=60", "light", 1000, 800)
		enter := func(token string) {
			p.until(`document.activeElement === token`)
			p.do("Input.insertText", map[string]string{"text": token})
			p.do("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13})
			p.do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13})
		}
		enter("wrong")
		p.until(`document.querySelector("#login-error").textContent === "The relay does not take this token."`)
		enter("not a token")
		p.until(`document.querySelector("#login-error").textContent.startsWith("A token has no blanks")`)
		enter(testToken)
		p.until(`document.querySelector("#link").textContent === "live" && !document.querySelector("#body").hidden && document.querySelector("#login").hidden`)
		if at := p.text("location.href + document.cookie + JSON.stringify(localStorage)"); strings.Contains(at, testToken) || !strings.HasSuffix(at, "/#range=60{}") {
			t.Errorf("kept at %s", at)
		}
		p.said() // 401 is an error to the browser
		p.do("Page.reload", nil)
		p.loaded()
		p.until(`document.querySelector("#link").textContent === "live"`)
		p.eval(`forget.click()`, nil)
		p.loaded()
		p.until(`document.activeElement === token && sessionStorage.length === 0`)
		for _, said := range p.said() {
			if !strings.Contains(said, "401") {
				t.Error(said)
			}
		}
	})

	for _, theme := range []string{"light", "dark"} {
		t.Run("it can be used by keyboard and read aloud, "+theme, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, "", "")
			for i := range 30 {
				s.observe(func(r *telemetry.Request) {
					r.End, r.Error = telemetry.EndReason(i%numEnds), "rate_limit"
				})
			}
			p := b.open(t, s.server.URL+"/", theme, 1440, 1000)
			p.until(`document.querySelector("#rows .failed") && document.querySelectorAll(".chart[aria-label]").length === 8`)
			p.do("Accessibility.enable", nil)
			checkNames(t, p)
			p.until(`document.querySelector("#problems .warn, #problems .bad")`)
			var low []string
			p.eval(contrast, &low)
			if len(low) > 0 {
				t.Errorf("contrast below 4.5: %q", low)
			}
			var seen []string
			for range 11 {
				p.key("Tab", 9)
				var at struct{ Name, Outline string }
				p.eval(`(() => { const e = document.activeElement; return { name: e.id || e.name || e.className || e.tagName, outline: getComputedStyle(e).outlineStyle } })()`, &at)
				if at.Outline == "none" && at.Name != "BODY" { // from the last one Tab leaves the page
					t.Errorf("the focus on %s is not to be seen", at.Name)
				}
				seen = append(seen, at.Name)
			}
			for _, want := range []string{"range", "q", "show", "pause"} {
				if !slices.Contains(seen, want) {
					t.Errorf("Tab does not reach %s, but %q", want, seen)
				}
			}
			if marks := p.text(`["header", "main", "footer", "h1"].map((m) => document.querySelectorAll(m).length) + document.documentElement.lang`); marks != "1,1,1,1en" {
				t.Errorf("landmarks: %s", marks)
			}
			silent(t, p)
		})
	}
}

// silent fails the test where the page has complained.
func silent(t *testing.T, p *tab) {
	t.Helper()
	if said := p.said(); len(said) > 0 {
		t.Errorf("the page complains: %q", said)
	}
}

// checkNames fails the test where something of the accessibility tree that
// wants a name has none.
func checkNames(t *testing.T, p *tab) {
	t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	if err := json.Unmarshal(p.do("Accessibility.getFullAXTree", nil), &tree); err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		count[role]++
		switch role {
		case "button", "textbox", "searchbox", "combobox", "radio", "table", "region", "image", "img", "search", "columnheader", "rowheader", "heading":
			if strings.TrimSpace(name) == "" {
				t.Errorf("a %s has no name", role)
			}
		}
	}
	for role, least := range map[string]int{"button": 1, "radio": 3, "searchbox": 1, "combobox": 1, "table": 5, "columnheader": 30, "rowheader": 5, "banner": 1, "main": 1, "contentinfo": 1} {
		if count[role] < least {
			t.Errorf("%d of role %s, want at least %d; there are %v", count[role], role, least, count)
		}
	}
}

// contrast lists the texts whose contrast with what is behind them is below
// 4.5 (WCAG 2.2, 1.4.3).
const contrast = `(() => {
	const rgb = (s) => s.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
	const low = new Set();
	let checked = 0;
	for (const e of document.querySelectorAll("body *")) {
		const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.matches("input, select");
		if (!own || !e.checkVisibility() || e.closest(".hidden, .skip")) continue;
		checked++;
		for (const colour of [getComputedStyle(e).color, ...(e.matches("input[placeholder]") ? [getComputedStyle(e, "::placeholder").color] : [])]) {
			const [a, b] = [light(rgb(colour)), light(behind(e))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
			if (ratio < 4.5) low.add(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.slice(0, 30));
		}
	}
	if (checked < 100) low.add("only " + checked + " texts were looked at");
	return [...low];
})()`
