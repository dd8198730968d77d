package failure

import (
	"errors"
	"net/url"
)

// PublicURL returns an address without its user, password and query, which may be
// secrets, for what people and logs are told. What cannot be parsed is only "…".
func PublicURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "…"
	}
	u.User, u.Fragment = nil, ""
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.String()
}

// WithoutURL returns the cause of an error of net/http or net/url, which names the whole
// address; any other error as it is.
func WithoutURL(err error) error {
	if found, ok := errors.AsType[*url.Error](err); ok {
		return found.Err
	}
	return err
}
