package web

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Whoever wants to change something shows the token, or is a program on this
// machine. That its connection comes from a loopback address proves nothing by
// itself: the browser of somebody who sits here connects from loopback too,
// whoever wrote the page it shows. A page from elsewhere says so in Origin. A
// page whose own name was pointed at 127.0.0.1 after it was loaded (DNS
// rebinding) is of the same origin, and shows itself in Host. And behind a
// proxy on this machine everybody comes from loopback, so what a proxy has
// passed on needs the token.

// forwarding are headers that proxies add.
var forwarding = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// Each snapshot takes space and has a place in the retention: whoever asks for
// one after the other, by a loop or in malice, waits.
const (
	writeBurst = 6
	writeEvery = 10 * time.Minute
)

// limitWrites refuses what comes too often. It is asked last: a request that is
// refused for another reason takes no snapshot, and no place.
func (s *Server) limitWrites(w http.ResponseWriter) error {
	if s.writes.Allow() {
		return nil
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(writeEvery.Seconds())))
	return refuse(http.StatusTooManyRequests,
		"too many snapshots were asked for: %d at once and one every %s are taken", writeBurst, writeEvery)
}

// mayWrite lets requests through that may change something: it judges who asks.
func (s *Server) mayWrite(w http.ResponseWriter, r *http.Request) error {
	if err := checkOrigin(r); err != nil {
		return err
	}
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		return s.checkToken(w, shown)
	}
	why := whyForeign(r)
	if why == "" && s.requireToken() {
		why = "http.require_token is set"
	}
	switch {
	case why == "":
		return nil
	case s.tokenFile() == "":
		return refuse(http.StatusForbidden, "refused: %s, and no http.token_file is configured that could allow it",
			why)
	}
	askForToken(w, "")
	return refuse(http.StatusUnauthorized,
		"refused: %s, so it needs the token of http.token_file: Authorization: Bearer …", why)
}

// checkOrigin refuses what a page of another origin sent.
func checkOrigin(r *http.Request) error {
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return refuse(http.StatusForbidden, "refused: a page of %q sent it, and only one of %q may", origin, r.Host)
		}
	}
	return nil
}

// mayHaveRead lets requests through that change nothing and cost much: a page from
// elsewhere cannot see the answer, but could have everything here read again and again.
func mayHaveRead(r *http.Request) error {
	if crossSite(r) {
		return refuse(http.StatusForbidden, "refused: a page from elsewhere sent it")
	}
	return checkOrigin(r)
}

func crossSite(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

// mayRead lets requests through that only look. Everybody may who can reach the
// port, except a page of a stranger that was pointed here: its host has a full
// public name, and this machine is not known to have one.
func (s *Server) mayRead(w http.ResponseWriter, r *http.Request) error {
	if !publicName(hostOf(r.Host)) {
		return nil
	}
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		return s.checkToken(w, shown)
	}
	return refuse(http.StatusForbidden, "refused: Host is %q, a name that a stranger may have pointed here: "+
		"use an address, a name without dots or one that ends in .local, .lan, .internal, .home.arpa or .ts.net, or "+
		"send the token of http.token_file", r.Host)
}

// whyForeign says why a request may not come from a program on this machine;
// "" when it does.
func whyForeign(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return "it comes from another machine"
	}
	for _, name := range forwarding {
		if len(r.Header.Values(name)) > 0 {
			return "it came through a proxy"
		}
	}
	if !isLoopbackName(hostOf(r.Host)) {
		return "its Host is not this machine's loopback"
	}
	if crossSite(r) {
		return "a page from elsewhere sent it"
	}
	return ""
}

// checkMediaType refuses what a form could send: only a program, or a script
// that had to ask first, can send JSON.
func checkMediaType(r *http.Request) error {
	declared := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(declared); err != nil || media != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "the body is %q, and must be Content-Type: application/json",
			declared)
	}
	return nil
}

// hostOf takes the port off a Host header.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

func isLoopbackName(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// privateSuffixes are ends of names that only the owner of a network gives out.
var privateSuffixes = []string{".localhost", ".local", ".lan", ".internal", ".home.arpa", ".ts.net"}

// publicName reports whether a stranger could own the name.
func publicName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
		return false
	}
	return !slices.ContainsFunc(privateSuffixes, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}
