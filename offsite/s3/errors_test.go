package s3

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/atocore/atobackupd/internal/failure"
)

// theSecret is in no output.
const theSecret = "hunter2hunter2"

// keyFile writes credentials.
func keyFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const keyText = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = " + theSecret + "\n"

// TestExplains has a service answer the first request of Open and wants the kind,
// what was said and what to do next, and never the key.
func TestExplains(t *testing.T) {
	answer := func(status int, code, message string, more ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message>%s</Error>", code, message,
				strings.Join(more, ""))
		}
	}
	for _, c := range []struct {
		name       string
		answer     http.HandlerFunc
		kind       failure.Kind
		text, hint string
	}{
		{"another time", answer(403, "RequestTimeTooSkewed", "The difference is too large."),
			failure.Other, "RequestTimeTooSkewed", "timedatectl"},
		{"another region, told", answer(400, "AuthorizationHeaderMalformed", "expecting 'garage'",
			"<Region>garage</Region>"), failure.Other, "expecting 'garage'",
			`set region = "garage", in a URL ?region=garage`},
		{"another region, not told", answer(301, "PermanentRedirect", "elsewhere"),
			failure.Other, "elsewhere", "set region to the bucket's"},
		{"another key", answer(403, "InvalidAccessKeyId", "unknown"), failure.Auth, "unknown", "credentials_file"},
		{"another secret", answer(403, "SignatureDoesNotMatch", "it differs"), failure.Auth, "it differs", "region"},
		{"no permission", answer(403, "AccessDenied", "Access Denied."), failure.Auth, "Access Denied", "docs/s3.md"},
		{"no bucket", answer(404, "NoSuchBucket", "none"), failure.Other, "none", "make the bucket vault"},
		{"quota of AWS", answer(403, "QuotaExceeded", "Bucket quota"), failure.NoSpace, "Bucket quota", "quota"},
		{"quota of MinIO", answer(400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
			failure.NoSpace, "Bucket quota", "quota"},
		{"cap of B2", answer(403, "AccessDenied", "Transaction cap exceeded, see Caps and Alerts"),
			failure.NoSpace, "cap exceeded", "quota"},
		{"full", answer(507, "StorageFull", "no room"), failure.NoSpace, "no room", "quota"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			explained(t, server.URL, c.kind, c.text, c.hint)
		})
	}
	for _, c := range []struct {
		name, text, hint string
		tls, https       bool
		host             string
	}{
		{"an unknown authority", "unknown authority", "add its CA", true, true, "127.0.0.1"},
		{"no TLS there", "HTTP response to HTTPS client", "speaks no TLS", false, true, "127.0.0.1"},
		{"TLS there", "HTTPS", "https://", true, false, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			if server.Start(); c.tls {
				server.Close()
				server = httptest.NewUnstartedServer(http.NotFoundHandler())
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.StartTLS()
			}
			defer server.Close()
			scheme := map[bool]string{true: "https", false: "http"}[c.https]
			explained(t, scheme+"://"+server.Listener.Addr().String(), failure.Other, c.text, c.hint)
		})
	}
}

func explained(t *testing.T, endpoint string, kind failure.Kind, text, hint string) {
	t.Helper()
	_, err := Open(context.Background(), Config{
		Name: "bucket", Endpoint: endpoint, Bucket: "vault",
		CredentialsFile: keyFile(t, filepath.Join(t.TempDir(), "keys"), keyText, 0o600),
	})
	if failure.KindOf(err) != kind || err == nil || !strings.Contains(err.Error(), text) ||
		!strings.Contains(failure.HintOf(err), hint) {
		t.Errorf("kind %v: %v", failure.KindOf(err), err)
	}
	if err != nil && strings.Contains(err.Error(), theSecret) {
		t.Errorf("it tells the key: %v", err)
	}
}

// TestKeys is where keys come from, and what is refused.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	open := keyFile(t, filepath.Join(dir, "open"), keyText, 0o644)
	broken := keyFile(t, filepath.Join(dir, "broken"), "aws_secret_access_key "+theSecret+"\n[", 0o600)
	private := keyFile(t, filepath.Join(dir, "private"), keyText, 0o600)
	systemd := filepath.Join(dir, "systemd")
	if err := os.Mkdir(systemd, 0o700); err != nil {
		t.Fatal(err)
	}
	byService := keyFile(t, filepath.Join(systemd, "s3"), keyText, 0o440)
	for _, c := range []struct {
		name, file, directory, id, secret string
		text                              string // of the error, or "" for none
	}{
		{"file", private, "", "", "", ""},
		{"file that others can read", open, "", "", "", "chmod 600"},
		{"file that holds none", broken, "", "", "", "holds no keys"},
		{"no file", filepath.Join(dir, "none"), "", "", "", "no such file"},
		{"environment", "", "", "AKIAEXAMPLE", theSecret, ""},
		{"half of the environment", "", "", "AKIAEXAMPLE", "", "there are no keys"},
		{"nothing", "", "", "", "", "there are no keys"},
		{"systemd's", "", systemd, "", "", ""},
		{"systemd's, named", byService, systemd, "", "", ""},
		{"systemd has another", "", dir, "", "", "no such file"},
		{"a file beside systemd's", open, systemd, "", "", "chmod 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", c.directory)
			t.Setenv("AWS_ACCESS_KEY_ID", c.id)
			t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			t.Setenv("AWS_PROFILE", "")
			keys, err := Config{Name: "bucket", CredentialsFile: c.file}.keys()
			if c.text != "" {
				if failure.KindOf(err) != failure.Config || !strings.Contains(err.Error(), c.text) ||
					strings.Contains(err.Error(), theSecret) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v, err := keys.GetWithContext(nil); err != nil || v.SecretAccessKey != theSecret {
				t.Errorf("other keys (%v)", err)
			}
		})
	}
}

// TestHarmful names the lifecycle rules that delete what a vault needs.
func TestHarmful(t *testing.T) {
	for rule, want := range map[string][]string{
		"<Expiration><Days>30</Days></Expiration>":                   {`rule "r" deletes objects after 30 days`},
		"<Expiration><Date>2027-01-01T00:00:00Z</Date></Expiration>": {`rule "r" deletes objects on a date`},
		"<AllVersionsExpiration><Days>9</Days></AllVersionsExpiration>": {
			`rule "r" deletes objects after 9 days`},
		"<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>": {
			`rule "r" deletes what somebody hid after 7 days`},
		"<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>": nil,
		"<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>" +
			"</AbortIncompleteMultipartUpload>": nil,
		"<Transition><Days>1</Days><StorageClass>COLD</StorageClass></Transition>": nil,
	} {
		for status, want := range map[string][]string{"Enabled": want, "Disabled": nil} {
			var rules lifecycle.Configuration
			text := "<LifecycleConfiguration><Rule><ID>r</ID><Status>" + status + "</Status>" + rule +
				"</Rule></LifecycleConfiguration>"
			if err := xml.Unmarshal([]byte(text), &rules); err != nil {
				t.Fatal(err)
			}
			if got := harmful(&rules); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", text, got, want)
			}
		}
	}
}
