package app

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/config"
)

// The names in the host document: a tar archive, sealed to the recipients, that
// holds what a new machine needs to take the vault up.
const (
	HostConfigName  = "config.toml"
	HostAboutName   = "host.json"
	HostSheetName   = "recovery-sheet.txt"
	HostSigningName = "signing_key"
	HostDrillsName  = "drills.json"
	HostFilesDir    = "files/" // with the absolute path of each
)

// HostAbout is host.json: where the files of a host document belong.
type HostAbout struct {
	Host       string `json:"host"`
	Target     string `json:"target"` // the one whose vault this is
	ConfigPath string `json:"config_path"`
	StateDir   string `json:"state_dir"`
}

// maxHostFile bounds a file that goes into the host document.
const maxHostFile = 1 << 20

// SheetPath is where the recovery sheet of this machine is kept for the host
// document.
func SheetPath(stateDir string) string { return filepath.Join(stateDir, HostSheetName) }

// hostContent puts the host document together. The same content has the same
// bytes. A file that is not there is left out: the rest is worth having.
func (a *App) hostContent(ctx context.Context, target string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, data []byte) error {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)),
			ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	about, err := json.MarshalIndent(HostAbout{a.Options.Host, target, a.Config.Path, a.Config.StateDir}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := add(HostAboutName, about); err != nil {
		return nil, err
	}
	files := map[string]string{HostConfigName: a.Config.Path, HostSigningName: a.signerPath(),
		HostSheetName: SheetPath(a.Config.StateDir)}
	for _, path := range hostFiles(a.Config) {
		files[HostFilesDir+path[1:]] = path
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		info, err := os.Stat(files[name])
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxHostFile) {
			continue
		}
		data, err := os.ReadFile(files[name])
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := add(name, data); err != nil {
			return nil, err
		}
	}
	drills, err := a.history.Drills(ctx, 1000)
	a.NoteHistoryError(err)
	if len(drills) > 0 {
		data, err := json.MarshalIndent(drills, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := add(HostDrillsName, data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// hostFiles are the files that the configuration names and a new machine needs.
func hostFiles(c *config.Config) (paths []string) {
	add := func(path string) {
		if filepath.IsAbs(path) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	for _, t := range c.Offsite {
		add(t.KnownHosts)
		add(t.IdentityFile)
	}
	add(c.Encryption.RecipientsFile)
	add(c.Notify.URLsFile)
	add(c.HTTP.TokenFile)
	return paths
}
