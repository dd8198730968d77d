package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
)

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "id_ed25519"), "key")
	put(t, filepath.Join(dir, "http-token"), "\n")
	cfg := &config.Config{Offsite: []config.Target{{IdentityFile: "/etc/atobackupd/id_ed25519"}, {}}}
	cfg.HTTP.TokenFile = "/etc/atobackupd/http-token"
	own := WithCredentials(cfg, dir)
	if own.Offsite[0].IdentityFile != filepath.Join(dir, "id_ed25519") || own.Offsite[1].IdentityFile != "" ||
		own.HTTP.TokenFile != cfg.HTTP.TokenFile {
		t.Errorf("%+v", own)
	}
	if cfg.Offsite[0].IdentityFile != "/etc/atobackupd/id_ed25519" {
		t.Error("the configuration that was given has changed")
	}
	if same := WithCredentials(cfg, ""); same.Offsite[0].IdentityFile != cfg.Offsite[0].IdentityFile {
		t.Errorf("%+v", same)
	}
	if err := os.Remove(filepath.Join(dir, "id_ed25519")); err != nil {
		t.Fatal(err)
	}
	if own := WithCredentials(cfg, dir); own.Offsite[0].IdentityFile != cfg.Offsite[0].IdentityFile {
		t.Error("a missing credential takes the file's place")
	}
}
