package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/s3"
	"github.com/atocore/atobackupd/offsite/sftp"
)

// VaultURL says where a vault is to a machine that has no configuration yet.
type VaultURL struct {
	// URL is sftp://USER@HOST[:PORT]/PATH or s3+https://HOST/BUCKET[/PREFIX][?region=REGION].
	URL         string
	SSHKey      string // any ssh key that may read there
	KnownHosts  string // "" for the one in the home directory
	Credentials string // of S3, in AWS' format; "" for the environment
}

// Open connects to it for reading. The caller closes the vault.
func (u VaultURL) Open(ctx context.Context, signers []string) (*Vault, error) {
	dial := u.dialSFTP
	if strings.HasPrefix(u.URL, "s3+") {
		dial = u.dialS3
	}
	remote, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	v, err := OpenVaultRemote(ctx, remote, u.URL, signers)
	if err != nil {
		remote.Close()
	}
	return v, err
}

func (u VaultURL) dialS3(ctx context.Context) (offsite.Remote, error) {
	cfg, err := s3.ParseURL(u.URL)
	if err != nil {
		return nil, err
	}
	cfg.Name, cfg.CredentialsFile = "bootstrap", u.Credentials
	remote, err := s3.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return remote, nil
}

func (u VaultURL) dialSFTP(ctx context.Context) (offsite.Remote, error) {
	bad := func(why string) error {
		return &failure.Error{Op: "bootstrap", Subject: "--from " + u.URL, Kind: failure.Usage, Err: errors.New(why),
			Hint: "e.g. sftp://atobackup@laptop.local/home/atobackup/vault or s3+https://s3.example.net/vault"}
	}
	at, err := url.Parse(u.URL)
	if err != nil {
		u.URL = failure.PublicURL(u.URL)
		return nil, bad("it is no URL")
	}
	if _, secret := at.User.Password(); secret {
		u.URL = at.Redacted()
		return nil, bad("a password does not belong in a URL")
	}
	if at.Scheme != "sftp" || at.Hostname() == "" || at.User.Username() == "" || strings.Trim(at.Path, "/") == "" {
		return nil, bad("it is not of the form sftp://USER@HOST[:PORT]/PATH")
	}
	port := 22
	if text := at.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return nil, bad("its port is no number")
		}
	}
	known := u.KnownHosts
	if known == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		known = filepath.Join(home, ".ssh", "known_hosts")
	}
	remote, err := sftp.Dial(ctx, sftp.Config{Name: "bootstrap", Hosts: []string{at.Hostname()}, Port: port,
		User: at.User.Username(), IdentityFile: u.SSHKey, KnownHosts: known, Path: at.Path, Transport: "builtin",
		TrustHint: fmt.Sprintf("compare its fingerprint on the machine itself; ssh -p %d %s@%s records it, or name a "+
			"file that has it with --known-hosts", port, at.User.Username(), at.Hostname())})
	if err != nil {
		return nil, err
	}
	return remote, nil
}
