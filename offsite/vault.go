package offsite

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

//go:embed recover.py
var recoverScript []byte

//go:embed vault_readme.txt
var vaultReadme []byte

// RecoverScriptSHA256 is the digest of the recover.py that this program puts
// into vaults, for the recovery sheet.
func RecoverScriptSHA256() string {
	digest := sha256.Sum256(recoverScript)
	return hex.EncodeToString(digest[:])
}

// Vault is an open vault on a remote.
type Vault struct {
	remote Remote
	Info   VaultInfo
	fault  string // what is wrong with vault.json; "" where it could be read
}

// ErrNoVault is the error of OpenVault where there is none.
var ErrNoVault = errors.New("there is no vault.json")

// ErrNewerVault is wrapped by the error about a vault that a newer program has written.
var ErrNewerVault = errors.New("a newer atobackupd wrote it")

// OpenVault reads vault.json. Where there is none the error wraps ErrNoVault.
// What it says is not proven: the caller compares it with what was pinned.
func OpenVault(ctx context.Context, remote Remote) (*Vault, error) {
	data, err := readAll(ctx, remote, vaultFile, maxInfo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoVault
	}
	if err != nil && isTransportError(err) {
		return nil, err
	}
	if err != nil {
		return nil, damagedVault(ctx, remote, err)
	}
	info, err := parseVaultInfo(data)
	if err != nil {
		return nil, err
	}
	return &Vault{remote: remote, Info: info}, nil
}

const nameMissing = "it is missing"

// LacksName reports whether a vault was opened without the vault.json that it had.
func (v *Vault) LacksName() bool { return v.fault == nameMissing }

// damagedVault says of an error of reading vault.json whether it is that no plain
// file has the name.
func damagedVault(ctx context.Context, remote Remote, err error) error {
	if e, statErr := remote.Stat(ctx, vaultFile); statErr != nil || e.IsFile() {
		return err
	}
	return &failure.Error{
		Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch, Err: errors.New("it is not a plain file"),
	}
}

// OpenUnnamed opens a vault whose vault.json is missing or damaged, for a reader
// who knows the signer from elsewhere; cause is why OpenVault refused. There must
// be snapshots.
func OpenUnnamed(ctx context.Context, remote Remote, id string, cause error) (*Vault, error) {
	if _, err := remote.List(ctx, snapshotsDir); err != nil {
		return nil, err
	}
	v := &Vault{remote: remote, Info: VaultInfo{ID: id}, fault: nameMissing}
	if !errors.Is(cause, ErrNoVault) {
		v.fault = reason(cause)
	}
	return v, nil
}

// parseVaultInfo reads vault.json.
func parseVaultInfo(data []byte) (info VaultInfo, err error) {
	if err := json.Unmarshal(data, &info); err != nil {
		return info, mismatch(err, "")
	}
	if info.Format == FormatName && info.Version > FormatVersion {
		return info, mismatch(fmt.Errorf("%w: version %d, this program knows version %d", ErrNewerVault, info.Version,
			FormatVersion), "use a newer atobackupd; where none ever wrote there: atobackupd vault init")
	}
	if info.Format != FormatName || info.Version != FormatVersion {
		return info, mismatch(
			fmt.Errorf(
				"format %q version %d, this program knows %q version %d", info.Format, info.Version, FormatName,
				FormatVersion,
			),
			"",
		)
	}
	if info.Signer, err = crypt.ParseSigner(info.Signer); err == nil {
		err = info.check()
	}
	if err != nil {
		return info, mismatch(err, "")
	}
	return info, nil
}

var vaultIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// check refuses what would harm whoever prints it: a host's name may end up on
// a terminal.
func (i *VaultInfo) check() error {
	switch {
	case !vaultIDPattern.MatchString(i.ID):
		return fmt.Errorf("vault_id %q is not 32 hexadecimal digits", i.ID)
	case !printable(i.Host) || !printable(i.Retention.Location.String()):
		return errors.New("a text in it has characters that cannot be shown")
	}
	return nil
}

func printable(s string) bool {
	return len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// directories are made in every vault.
var directories = []string{packsDir, snapshotsDir, policyDir, hostDir, reportsDir, trashDir, incomingDir}

// refuseForeign refuses a remote without a vault that holds anything which a vault
// does not: somebody else's directory.
func refuseForeign(ctx context.Context, remote Remote) error {
	entries, err := remote.List(ctx, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		expected := e.Dir && (slices.Contains(directories, e.Name) || e.Name == "lost+found")
		if !expected && e.Name != readmeFile && e.Name != recoverFile {
			return &failure.Error{Op: "vault", Subject: e.Name, Kind: failure.VaultMismatch,
				Err:  errors.New("the directory is not empty and holds no vault"),
				Hint: "is the right disk mounted there? give the target a path of its own"}
		}
	}
	return nil
}

// NewVault makes a vault on an empty remote.
func NewVault(ctx context.Context, remote Remote, info VaultInfo) (v *Vault, err error) {
	if err := refuseForeign(ctx, remote); err != nil {
		return nil, err
	}
	info.Format, info.Version = FormatName, FormatVersion
	if info.ID, err = randomHex(16); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{readmeFile, vaultReadme}, {recoverFile, recoverScript}, {vaultFile, append(data, '\n')}} {
		_, err := remote.Put(ctx, file.name, bytes.NewReader(file.data))
		switch {
		case errors.Is(err, fs.ErrExist) && file.name == vaultFile:
			return nil, mismatch(errors.New("somebody else has made a vault there just now"),
				"see whether another host, or another target of this one, has the same place; the next sync says")
		case err != nil && !errors.Is(err, fs.ErrExist):
			return nil, err
		}
	}
	return &Vault{remote: remote, Info: info}, nil
}

// remakeVault writes vault.json anew for the vault that state remembers.
func remakeVault(ctx context.Context, remote Remote, state *State, info VaultInfo) (*Vault, error) {
	info.Format, info.Version, info.ID = FormatName, FormatVersion, state.VaultID
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := remote.Remove(ctx, vaultFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &failure.Error{
			Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch,
			Err:  fmt.Errorf("it is damaged, and cannot be replaced: %w", err),
			Hint: "remove it on the second machine; the next sync writes it anew",
		}
	}
	if _, err := remote.Put(ctx, vaultFile, bytes.NewReader(append(data, '\n'))); err != nil {
		return nil, err
	}
	return &Vault{remote: remote, Info: info}, nil
}

// RenewScript puts the recover.py of this program into a vault that another
// version began, under a name of its own: the first one is never replaced while it
// is sound. README.txt names the newest. repair names what of these is damaged: it
// is removed and put anew, where mayRemove says that this account can. It returns
// what it wrote.
func (v *Vault) RenewScript(ctx context.Context, repair []string, mayRemove bool) (written []string, err error) {
	put := func(name string, data []byte) error {
		if mayRemove && slices.Contains(repair, name) {
			if err := v.discard(ctx, name); err != nil {
				return err
			}
		}
		_, err := v.remote.Put(ctx, name, bytes.NewReader(data))
		if err == nil {
			written = append(written, name)
		}
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	for _, name := range repair {
		switch {
		case name == recoverFile || name == RecoverScriptName():
			err = put(name, recoverScript)
		case IsRecoverScript(name) && mayRemove: // another version's: nobody needs it
			err = v.discard(ctx, name)
		}
		if err != nil {
			return written, err
		}
	}
	newest := ""
	for _, name := range []string{recoverFile, RecoverScriptName()} {
		data, err := readAll(ctx, v.remote, name, maxInfo)
		if err != nil && !isDamage(err) {
			return written, err
		}
		if newest == "" && err == nil && bytes.Equal(data, recoverScript) {
			newest = name
		}
	}
	if newest == "" {
		newest = RecoverScriptName()
		if err := put(newest, recoverScript); err != nil {
			return written, err
		}
		repair = append(slices.Clone(repair), readmeFile)
	}
	if !slices.Contains(repair, readmeFile) {
		return written, nil
	}
	return written, put(readmeFile, bytes.ReplaceAll(vaultReadme, []byte(recoverFile), []byte(newest)))
}

// discard removes what nobody needs, if it is there and no lock keeps it.
func (v *Vault) discard(ctx context.Context, name string) error {
	err := v.remote.Remove(ctx, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrLocked) {
		return nil
	}
	return err
}

// IsAround reports whether an object is one that RenewScript can put anew.
func IsAround(name string) bool { return name == readmeFile || IsRecoverScript(name) }

// Probe stores an object in incoming/, reads it back and, where mayRemove says
// that this account can, removes it.
func Probe(ctx context.Context, remote Remote, mayRemove bool) (err error) {
	suffix, err := randomHex(8)
	if err != nil {
		return err
	}
	name := incomingDir + "/probe-" + suffix
	if _, err := remote.Put(ctx, name, strings.NewReader(suffix)); err != nil {
		return err
	}
	data, err := readAll(ctx, remote, name, maxInfo)
	if err == nil && string(data) != suffix {
		err = &failure.Error{Op: "probe", Subject: name, Err: errors.New("it was read back with other bytes")}
	}
	if mayRemove {
		err = errors.Join(err, remote.Remove(ctx, name))
	}
	return err
}

func randomHex(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}
