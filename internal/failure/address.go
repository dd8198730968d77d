package failure

import (
	"errors"
	"net/url"
	"strings"
)

// PublicURL returns an address without its user, password and query, which may be
// secrets, for what people and logs are told. What cannot be parsed is only "…", and
// where an "@" is in another place, because somebody mistyped, only what follows it is told.
func PublicURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "…"
	}
	u.User, u.Fragment = nil, ""
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	public := u.String()
	if at := strings.LastIndexByte(public, '@'); at >= 0 {
		public = "…" + public[at:]
	}
	return public
}

// WithoutURL returns the cause of an error of net/http or net/url, which names the whole
// address; any other error as it is.
func WithoutURL(err error) error {
	if found, ok := errors.AsType[*url.Error](err); ok {
		return found.Err
	}
	return err
}
