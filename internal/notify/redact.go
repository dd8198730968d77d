package notify

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redactor takes the secrets of one address out of texts.
type redactor struct{ pattern *regexp.Regexp }

// shortest is the length from which a part of an address counts as a secret:
// to blot out every "1" and "yes" would make messages unreadable.
const shortest = 4

// newRedactor collects what may be secret in an address: all of it but its
// scheme and a host with a dot, each part by itself because services build
// other addresses of them, and in the forms in which they are sent.
func newRedactor(address string) redactor {
	var secrets []string
	add := func(parts ...string) {
		for _, s := range parts {
			for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s),
				base64.StdEncoding.EncodeToString([]byte(s))} {
				if len(s) >= shortest && !slices.Contains(secrets, form) {
					secrets = append(secrets, form)
				}
			}
		}
	}
	add(address)
	_, rest, _ := strings.Cut(address, "://")
	add(rest)
	u, err := url.Parse(address)
	if err != nil {
		add(strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("/@:?&=#", r) })...)
		return compile(secrets)
	}
	password, _ := u.User.Password()
	add(u.User.Username(), password, u.User.Username()+":"+password, u.RequestURI(), u.Path, u.Fragment, u.Opaque)
	if host := u.Hostname(); !strings.Contains(host, ".") && host != "localhost" {
		add(host)
	}
	for _, path := range []string{u.Path, u.EscapedPath()} {
		for part := range strings.SplitSeq(path, "/") {
			add(part)
			add(strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(":@,;", r) })...)
		}
	}
	for _, values := range u.Query() {
		add(values...)
	}
	return compile(secrets)
}

func compile(secrets []string) redactor {
	// The longest first: a part must not spoil the match of the whole.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for i, s := range secrets {
		secrets[i] = regexp.QuoteMeta(s)
	}
	if len(secrets) == 0 {
		return redactor{}
	}
	return redactor{regexp.MustCompile("(?i)" + strings.Join(secrets, "|"))}
}

// clean returns an error's text without secrets. An error of net/http carries the
// address in full, so of that only the cause is taken.
func (r redactor) clean(err error) string {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if r.pattern != nil {
		text = r.pattern.ReplaceAllString(text, "***")
	}
	const most = 500 // a server's whole error page helps nobody
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
