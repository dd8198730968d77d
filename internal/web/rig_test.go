//go:build rig

package web

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// screenshots is where each page is left to be looked at.
const screenshots = "testdata/screenshots"

// axeCore is the checker of what people with a screen reader, a keyboard or weak
// eyes meet: the WCAG rules, and the practices that its authors recommend.
const axeCore = "axe-core@4.14.1"

// TestRigDashboard opens the pages in a real browser, as they are on a phone, a
// tablet and a desk, by day and by night.
func TestRigDashboard(t *testing.T) {
	browser, axe := newBrowser(t), fetchAxe(t)
	pages := []struct {
		name  string
		state *State
		path  string
	}{
		{"good", bigScene(t), "/"},
		{"warning", warningScene(t), "/"},
		{"critical", criticalScene(t), "/"},
		{"empty", emptyScene(t), "/"},
		{"hostile", hostileScene(t), "/"},
		{"runs", criticalScene(t), "/runs"},
		{"drills", bigScene(t), "/drills"},
		{"snapshot", bigScene(t), "/snapshots/20260405T040000Z"},
		{"snapshot-bad", criticalScene(t), "/snapshots/20260405T040000Z"},
		{"snapshot-away", bigScene(t), "/snapshots/20260222T040000Z"},
	}
	for _, p := range pages {
		server := httptest.NewServer(New(&fakeSource{state: p.state}, Options{}).Handler())
		defer server.Close()
		for _, width := range []int64{360, 768, 1280, 1920} {
			for _, scheme := range []string{"light", "dark"} {
				switch desk := width == 1280; {
				case p.name == "hostile" && (!desk && width != 360 || desk == (scheme == "light")):
					continue // long, and the same in other colours
				case p.name != "good" && !desk && width != 360:
					continue // what is wide or narrow is the frame of all pages
				}
				name := fmt.Sprintf("%s-%d-%s", p.name, width, scheme)
				t.Run(name, func(t *testing.T) { look(t, browser, name, server.URL+p.path, axe, width, scheme) })
			}
		}
	}
}

// fetchAxe returns the source of axe-core.
func fetchAxe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pack := exec.Command("npm", "pack", "--silent", axeCore)
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", pack, err, out)
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	must(t, err)
	source, err := exec.Command("tar", "-xzOf", archives[0], "package/axe.min.js").Output()
	must(t, err)
	return string(source)
}

// TestRigWithoutScripts reads the page as a browser shows it that runs none.
func TestRigWithoutScripts(t *testing.T) {
	server := httptest.NewServer(New(&fakeSource{state: bigScene(t)}, Options{}).Handler())
	defer server.Close()
	tab, seen := open(t, newBrowser(t), 360, "light")
	call(t, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	must(t, chromedp.Do(tab, chromedp.Navigate(server.URL)))
	text := run(t, tab, chromedp.Text("body"))
	for _, part := range []string{"You can restore to 06:00 today from here and cupboard", "Full snapshots",
		"April 2026", "Time to take a snapshot", "20260301T040000Z", "Passed", "None is open."} {
		if !strings.Contains(text, part) {
			t.Errorf("without scripts the page does not say %q", part)
		}
	}
	if strings.Contains(text, "Copy") {
		t.Error("there is a button that does nothing")
	}
	seen.check(t, server.URL)
}

// newBrowser starts Chromium without a screen.
func newBrowser(t *testing.T) context.Context {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs Chromium: apt-get install chromium")
	}
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), chromedp.ExecPath(path), chromedp.Headless,
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update",
			true), chromedp.Flag("disable-sync", true))
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(browser); err != nil {
		t.Fatal(err)
	}
	return browser
}

// open returns a new tab of the width and colours that were asked for, and what
// it does.
func open(t *testing.T, browser context.Context, width int64, scheme string) (context.Context, *watched) {
	tab, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	tab, cancel = context.WithTimeout(tab, time.Minute)
	t.Cleanup(cancel)
	seen := new(watched)
	must(t, chromedp.Do(tab))
	must(t, chromedp.Listen(tab, seen.note))
	call(t, tab, network.Enable, network.EnableParams{})
	call(t, tab, log.Enable, cdp.Empty{})
	call(t, tab, runtime.Enable, cdp.Empty{})
	call(t, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	call(t, tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: 844, DeviceScaleFactor: 1, Mobile: width < 500,
	})
	return tab, seen
}

// call sends the browser one command.
func call[P, R any](t *testing.T, tab context.Context, command cdp.Command[P, R], params P) {
	t.Helper()
	_, err := chromedp.Call(tab, command, params)
	must(t, err)
}

// run returns the value of an action.
func run[T any](t *testing.T, tab context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(tab, action)
	must(t, err)
	return value
}

// watched is what a page did while it was open.
type watched struct {
	mu       sync.Mutex
	console  []string
	requests []string
}

func (w *watched) note(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		w.console = append(w.console, string(e.Type))
	case *runtime.EventExceptionThrown:
		w.console = append(w.console, e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		w.console = append(w.console, e.Entry.Text+" "+e.Entry.URL)
	case *network.EventRequestWillBeSent:
		w.requests = append(w.requests, e.Request.URL)
	}
}

// look opens one page, leaves a picture of it, and fails when the page said
// something on the console, asked another host, or is wider than its window.
func look(t *testing.T, browser context.Context, name, address, axe string, width int64, scheme string) {
	tab, seen := open(t, browser, width, scheme)
	must(t, chromedp.Do(tab, chromedp.Navigate(address)))
	for _, element := range run(t, tab, chromedp.Evaluate[[]string](overflowing)) {
		t.Errorf("wider than the window: %s", element)
	}
	for _, text := range run(t, tab, chromedp.Evaluate[[]string](faint)) {
		t.Errorf("hard to read: %s", text)
	}
	must(t, os.WriteFile(filepath.Join(screenshots, name+".png"), run(t, tab, chromedp.FullScreenshot(100)), 0o644))
	if width == 1280 { // it asks for what a page says and does, which all widths share
		audit := chromedp.Evaluate[[]string](axe+"\n"+violations, chromedp.EvalAwaitPromise)
		for _, violation := range run(t, tab, audit) {
			t.Errorf("axe-core: %s", violation)
		}
	}
	renewed := `renew().then(() => document.querySelector("main h1") !== null && !document.body.classList.contains("stale"))`
	if !run(t, tab, chromedp.Evaluate[bool](renewed, chromedp.EvalAwaitPromise)) {
		t.Error("the script could not renew the page")
	}
	seen.check(t, address)
	call(t, tab, page.SetFontSizes, page.SetFontSizesParams{FontSizes: &page.FontSizes{Standard: 32, Fixed: 26}})
	must(t, chromedp.Do(tab, chromedp.Navigate(address)))
	for _, element := range run(t, tab, chromedp.Evaluate[[]string](overflowing)) {
		t.Errorf("wider than the window where text is twice as large: %s", element)
	}
}

// check fails when the page said something on the console or asked another
// host.
func (w *watched) check(t *testing.T, address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.console {
		t.Errorf("on the console: %s", line)
	}
	if len(w.requests) < 3 {
		t.Errorf("only %d requests were seen: %s", len(w.requests), strings.Join(w.requests, ", "))
	}
	home, err := url.Parse(address)
	must(t, err)
	for _, asked := range w.requests {
		if u, err := url.Parse(asked); err != nil || u.Host != home.Host {
			t.Errorf("it asked another host: %s", asked)
		}
	}
}

// violations lists the rules of axe-core that the page breaks, each with the first
// element that does.
const violations = `axe.run().then(r => r.violations.map(
	v => v.id + ": " + v.help + ": " + v.nodes[0].html.slice(0, 120)))`

// overflowing lists the elements that reach beyond the right edge.
const overflowing = `[...document.querySelectorAll("main *, header *, footer *")]
	.filter(e => !e.closest("svg svg *") && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
	.slice(0, 5).map(e => e.outerHTML.slice(0, 120))
	.concat(document.documentElement.scrollWidth > document.documentElement.clientWidth ? ["the page itself"] : [])`

// faint lists texts whose contrast with what is behind them is below that of
// WCAG's level AA.
const faint = `(() => {
	const light = c => {
		const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const parse = s => (s.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
	const behind = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
		}
		return [255, 255, 255];
	};
	const found = new Set();
	for (const e of document.querySelectorAll("body *")) {
		const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
		if (!text || !e.getClientRects().length || ["SCRIPT", "TITLE", "DESC"].includes(e.tagName.toUpperCase())) continue;
		const style = getComputedStyle(e), ink = parse(e.closest("svg") ? style.fill : style.color);
		const [a, b] = [light(ink.slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05), large = parseFloat(style.fontSize) >= 24;
		if (ratio < (large ? 3 : 4.5)) found.add(ratio.toFixed(2) + " " + (e.className.baseVal ?? e.className) + " " + text.slice(0, 40));
	}
	return [...found].slice(0, 8);
})()`
