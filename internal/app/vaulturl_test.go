package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// An address that is none is refused before anything is dialled, with an example
// and without its password.
func TestVaultURLIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, text string }{
		{"", "is not of the form"},
		{"/srv/vault", "is not of the form"},
		{"laptop.local:/vault", "is not of the form"},
		{"http://atobackup@laptop.local/vault", "is not of the form"},
		{"sftp://laptop.local/vault", "is not of the form"}, // nobody to be
		{"sftp://atobackup@/vault", "is not of the form"},
		{"sftp://atobackup@laptop.local", "is not of the form"},
		{"sftp://atobackup@laptop.local/", "is not of the form"},
		{"sftp://atobackup@laptop.local:port/vault", "it is no URL"},
		{"sftp://atobackup@laptop.local:99999999999999999999/vault", "its port is no number"},
		{"sftp://atobackup:hunter2@laptop.local/vault", "a password does not belong in a URL"},
		{"sftp://atobackup:hunter2@laptop.local:port/vault", "it is no URL"},
	} {
		_, err := VaultURL{URL: test.url, SSHKey: "/none", KnownHosts: "/none"}.Open(t.Context(), nil)
		if failure.KindOf(err) != failure.Usage || !strings.Contains(err.Error(), test.text) ||
			!strings.Contains(failure.HintOf(err), "sftp://atobackup@laptop.local/home/atobackup/vault") {
			t.Errorf("%q: %v", test.url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("it tells the password: %v", err)
		}
	}
	for _, test := range []struct{ url, text string }{
		{"s3+https://", "is not https://HOST"},
		{"s3+https://s3.example.net", "is no name of a bucket"},
		{"s3+https://s3.example.net/p1", "is no name of a bucket"},
		{"s3+ftp://s3.example.net/vault", "is not https://HOST"},
		{"s3+https://s3.example.net/vault?region=garage&bucket=other", "and nothing else"},
		{"s3+https://AKIA:hunter2@s3.example.net/vault", "keys do not belong in a URL"},
		{"s3+https://AKIA:hunter2@s3.example.net:port/vault", "it is not a URL"},
	} {
		_, err := VaultURL{URL: test.url}.Open(t.Context(), nil)
		if failure.KindOf(err) != failure.Usage || !strings.Contains(err.Error(), test.text) ||
			!strings.Contains(failure.HintOf(err), "?region=REGION") {
			t.Errorf("%q: %v", test.url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("it tells the key: %v", err)
		}
	}
}

// A machine that is not there, or is another one than is known, is an error of its
// kind.
func TestVaultURLDials(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("known_hosts", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := VaultURL{URL: "sftp://atobackup@127.0.0.1:1/vault", SSHKey: h.path("none"),
		KnownHosts: h.path("known_hosts")}.Open(ctx, nil)
	if err == nil || failure.KindOf(err) == failure.Usage {
		t.Errorf("%v", err)
	}
}
