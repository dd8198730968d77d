package failure

import (
	"net/http"
	"strings"
	"testing"
)

func TestPublicURL(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:8100/health":              "http://127.0.0.1:8100/health",
		"http://user:hunter2@host/health":           "http://host/health",
		"https://host/health?token=hunter2#hunter2": "https://host/health?…",
		"http://host:hunter2/":                      "…",
		"user:hunter2@host/bucket":                  "…@host/bucket",
		"s3+https:user:hunter2@host/bucket":         "…@host/bucket",
		"/://user:hunter2@host/bucket":              "…@host/bucket",
		"http://a://user:hunter2@host/bucket":       "…@host/bucket",
		"":                                          "",
	} {
		if got := PublicURL(address); got != want {
			t.Errorf("%q becomes %q, want %q", address, got, want)
		}
	}
}

func TestWithoutURL(t *testing.T) {
	for _, address := range []string{
		"http://u:hunter2@127.0.0.1:1/?token=hunter2", "http://host:hunter2/", "hunter2://x",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err == nil {
			_, err = http.DefaultClient.Do(request)
		}
		if err == nil || strings.Contains(WithoutURL(err).Error(), "token=") {
			t.Errorf("%s: %v", address, WithoutURL(err))
		}
	}
}
