package restore

import (
	"context"
	"strings"
	"testing"
)

// An address may hold a password or a token, and what is said of it goes into the
// history, onto the dashboard and to whoever is told.
func TestNoSecretOfAnAddressIsTold(t *testing.T) {
	const address = "http://me:hunter2@127.0.0.1:1/health?token=hunter2"
	_, getErr := get(t.Context(), address)
	late, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range map[string]error{
		"the service answers": answersAt(address),
		"a look":              getErr,
		"a check":             Check{URL: address}.run(late, "", nil),
		"waiting":             (&Request{HealthURL: address}).waitHealthy(late),
	} {
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
