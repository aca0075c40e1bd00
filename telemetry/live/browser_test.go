package live

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium, spoken to by the DevTools protocol over two
// pipes (--remote-debugging-pipe: JSON, each message ended by a NUL).
type browser struct {
	in  io.WriteCloser
	cmd *exec.Cmd

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
	pages   map[string]*tab // by session
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// tab is one page. What it complains of is an error of the test, unless the
// test takes it with complaints.
type tab struct {
	*browser
	t       testing.TB
	session string
	ready   chan struct{} // gets one for each load

	mu         sync.Mutex
	complaints []string
}

// startBrowser starts Chromium, or skips the test where there is none.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatal("there is no chromium (install Debian's chromium)")
		}
		t.Skip("there is no chromium (install Debian's chromium to have the page tested)")
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "relay-browser-")
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{in: in, waiting: make(map[int]chan reply), pages: make(map[string]*tab)}
	b.cmd = exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", "--mute-audio", "--hide-scrollbars", "--no-proxy-server",
		"--force-color-profile=srgb", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	b.cmd.ExtraFiles = []*os.File{childIn, childOut} // its descriptors 3 and 4
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read(bufio.NewReaderSize(out, 1<<20))
	}()
	t.Cleanup(func() {
		_, _ = in.Write([]byte(`{"id":1000000,"method":"Browser.close"}` + "\x00"))
		timer := time.AfterFunc(patience, func() { _ = b.cmd.Process.Kill() })
		<-done
		_ = b.cmd.Wait()
		timer.Stop()
		in.Close()
		out.Close()
		os.RemoveAll(profile)
	})
	return b
}

func (b *browser) read(out *bufio.Reader) {
	for {
		message, err := out.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID        int
			SessionID string
			Method    string
			Params    json.RawMessage
			reply
		}
		if json.Unmarshal(message[:len(message)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		to, page := b.waiting[m.ID], b.pages[m.SessionID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		if to != nil {
			to <- m.reply
		} else if page != nil {
			page.event(m.Method, m.Params)
		}
	}
}

func (b *browser) call(t testing.TB, session, method string, params any) json.RawMessage {
	t.Helper()
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.waiting[id] = answer
	b.mu.Unlock()
	message, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": session})
	if err != nil {
		t.Fatal(err)
	}
	if session == "" {
		message = []byte(strings.Replace(string(message), `,"sessionId":""`, "", 1))
	}
	b.mu.Lock()
	_, err = b.in.Write(append(message, 0))
	b.mu.Unlock()
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			t.Fatalf("%s: %s", method, r.Error.Message)
		}
		return r.Result
	case <-time.After(3 * patience):
		t.Fatalf("%s: no answer", method)
	}
	return nil
}

// open opens a page of the given size, in a profile of its own, with the theme.
func (b *browser) open(t testing.TB, url, theme string, width, height int) *tab {
	t.Helper()
	var made struct{ BrowserContextID, TargetID, SessionID string }
	get := func(method string, params map[string]any) {
		if err := json.Unmarshal(b.call(t, "", method, params), &made); err != nil {
			t.Fatal(err)
		}
	}
	get("Target.createBrowserContext", nil)
	get("Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": made.BrowserContextID})
	get("Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true})
	p := &tab{browser: b, t: t, session: made.SessionID, ready: make(chan struct{}, 16)}
	b.mu.Lock()
	b.pages[p.session] = p
	b.mu.Unlock()
	t.Cleanup(func() { get("Target.disposeBrowserContext", map[string]any{"browserContextId": made.BrowserContextID}) })
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.do(domain+".enable", nil)
	}
	p.look(theme, width, height)
	p.do("Page.navigate", map[string]any{"url": url})
	p.loaded()
	return p
}

// look sets theme and size.
func (p *tab) look(theme string, width, height int) {
	p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700})
	p.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}}})
}

func (p *tab) do(method string, params any) json.RawMessage {
	p.t.Helper()
	return p.call(p.t, p.session, method, params)
}

func (p *tab) loaded() {
	p.t.Helper()
	select {
	case <-p.ready:
	case <-time.After(3 * patience):
		p.t.Fatal("the page does not load")
	}
}

func (p *tab) event(method string, params json.RawMessage) {
	complain := func(text string) {
		p.mu.Lock()
		p.complaints = append(p.complaints, text)
		p.mu.Unlock()
	}
	switch method {
	case "Page.loadEventFired":
		p.ready <- struct{}{}
	case "Runtime.exceptionThrown":
		complain(string(params))
	case "Runtime.consoleAPICalled":
		complain(string(params))
	case "Log.entryAdded": // failed loads and violations of the policy are among them
		var e struct {
			Entry struct{ Level, Text, URL, Source string }
		}
		if json.Unmarshal(params, &e) == nil && (e.Entry.Level == "error" || e.Entry.Source == "security") {
			complain(e.Entry.Text + " " + e.Entry.URL)
		}
	}
}

// said returns the complaints since the last call.
func (p *tab) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := p.complaints
	p.complaints = nil
	return said
}

// eval runs JavaScript in the page and decodes the value into to.
func (p *tab) eval(script string, to any) {
	p.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	if err := json.Unmarshal(p.do("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}), &out); err != nil {
		p.t.Fatal(err)
	}
	if out.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", script, out.ExceptionDetails.Exception.Description)
	}
	if to != nil && len(out.Result.Value) > 0 {
		if err := json.Unmarshal(out.Result.Value, to); err != nil {
			p.t.Fatalf("%s: %s: %v", script, out.Result.Value, err)
		}
	}
}

// text is the value of a script as text.
func (p *tab) text(script string) (s string) {
	p.t.Helper()
	p.eval("String("+script+")", &s)
	return s
}

// until waits for a script to hold.
func (p *tab) until(script string) {
	p.t.Helper()
	for limit := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		var ok bool
		if p.eval("!!("+script+")", &ok); ok {
			return
		}
		if time.Now().After(limit) {
			p.t.Fatalf("not in time: %s; the page says:\n%s", script, p.text("document.body.innerText"))
		}
	}
}

// key presses a key that types no text, such as Tab.
func (p *tab) key(name string, code int) {
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		p.do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code})
	}
}

// screenshot returns a PNG of what is to be seen, or of the whole page.
func (p *tab) screenshot(whole bool) []byte {
	p.t.Helper()
	var out struct{ Data string }
	if err := json.Unmarshal(p.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole, "optimizeForSpeed": false}), &out); err != nil {
		p.t.Fatal(err)
	}
	png, err := base64.StdEncoding.DecodeString(out.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// TestScreenshots writes pictures of a page that runs elsewhere:
// RELAY_LIVE_URL=http://127.0.0.1:9090/ RELAY_LIVE_SHOTS=folder go test -run Screenshots ./telemetry/live
func TestScreenshots(t *testing.T) {
	url, dir := os.Getenv("RELAY_LIVE_URL"), os.Getenv("RELAY_LIVE_SHOTS")
	if url == "" || dir == "" {
		t.Skip("set RELAY_LIVE_URL and RELAY_LIVE_SHOTS to have pictures of a page taken")
	}
	b := startBrowser(t)
	for _, one := range []struct {
		name, theme   string
		width, height int
	}{{"light", "light", 1440, 1000}, {"dark", "dark", 1440, 1000}, {"phone", "light", 390, 844}} {
		p := b.open(t, url, one.theme, one.width, one.height)
		p.until("document.querySelector('#tiles .big')")
		time.Sleep(2 * time.Second) // for a second or two to pass on the page
		for _, whole := range []bool{false, true} {
			if err := os.WriteFile(fmt.Sprintf("%s/%s-%t.png", dir, one.name, whole), p.screenshot(whole), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if said := p.said(); len(said) > 0 {
			t.Errorf("%s: %q", one.name, said)
		}
	}
}
