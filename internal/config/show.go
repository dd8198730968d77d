package config

import (
	"bytes"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/atocore/atobackupd/internal/failure"
)

// Show returns the configuration in force, defaults and all, as TOML that Parse
// takes, without secrets: of addresses only the scheme and a host that is no
// secret are left.
func (c *Config) Show() ([]byte, error) {
	public := *c
	public.AtoCore.APIURL = failure.PublicURL(c.AtoCore.APIURL)
	public.AtoCore.HealthURL = failure.PublicURL(c.AtoCore.HealthURL)
	public.Restore.Checks = slices.Clone(c.Restore.Checks)
	for i := range public.Restore.Checks {
		public.Restore.Checks[i].URL = failure.PublicURL(public.Restore.Checks[i].URL)
	}
	public.Notify.URLs = slices.Clone(c.Notify.URLs)
	for i, address := range public.Notify.URLs {
		public.Notify.URLs[i] = withoutSecret(address)
	}
	public.Notify.Heartbeats = maps.Clone(c.Notify.Heartbeats)
	for leg, address := range public.Notify.Heartbeats {
		public.Notify.Heartbeats[leg] = withoutSecret(address)
	}
	text, err := toml.Marshal(public)
	return doubleQuoted(text), err
}

// literal is a string of TOML in either kind of quotes.
var literal = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|'[^'\n]*'`)

// doubleQuoted writes the strings of a TOML document as people do, and as
// config.example.toml does: in double quotes, but where they would have to be escaped.
func doubleQuoted(text []byte) []byte {
	return literal.ReplaceAllFunc(text, func(word []byte) []byte {
		if word[0] == '"' || bytes.ContainsAny(word, `"\`) {
			return word
		}
		word[0], word[len(word)-1] = '"', '"'
		return word
	})
}

// hostSchemes are those of the addresses whose host is a server's name. Others
// have a token in its place.
var hostSchemes = []string{"http", "https", "ntfy", "smtp", "gotify", "matrix", "mattermost", "rocketchat"}

func withoutSecret(address string) string {
	scheme, _, found := strings.Cut(address, "://")
	if !found {
		return "…"
	}
	u, err := url.Parse(address)
	if err != nil || !slices.Contains(hostSchemes, u.Scheme) {
		return scheme + "://…"
	}
	return u.Scheme + "://" + u.Host + "/…"
}
