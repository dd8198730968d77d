package offsite

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// The names and numbers of vault format 1.
const (
	FormatName    = "atobackup-vault"
	FormatVersion = 1
	PageSize      = 4096

	vaultFile    = "vault.json"
	readmeFile   = "README.txt"
	recoverFile  = "recover.py"
	packsDir     = "packs"
	snapshotsDir = "snapshots"
	trashDir     = "trash"
	incomingDir  = "incoming"
	policyDir    = "policy"
	hostDir      = "host"
	reportsDir   = "reports"

	packSuffix     = ".age"
	manifestSuffix = ".manifest.age"
	infoSuffix     = ".json"
	sumsSuffix     = ".SHA256SUMS"
	sigSuffix      = ".SHA256SUMS.sig"
)

// Limits on what is read from a vault. They are far above what this program
// writes, and low enough that a hostile vault cannot exhaust the reader.
const (
	maxPackPages = 1 << 16   // 256 MiB of pages in one pack
	maxInfo      = 1 << 20   // vault.json, .json, signature
	maxSums      = 16 << 20  // SHA256SUMS, and
	maxSumLines  = 150_000   // its lines: of a vault of 1 TB
	maxManifest  = 256 << 20 // decompressed
	maxFiles     = 4 << 20
	maxFileSize  = 1 << 46 // 64 TiB
	maxTotalSize = 1 << 50 // of all files together
	maxWindow    = 8 << 20 // of a zstd frame: what a decoder sets aside
	maxPath      = 4096
)

// VaultInfo is vault.json. The vault is not its own witness: ID and Signer are
// pinned on the host when the vault is first used. Retention is what the vault is
// pruned by where no configuration says otherwise.
type VaultInfo struct {
	Format    string           `json:"format"`
	Version   int              `json:"version"`
	ID        string           `json:"vault_id"`
	Created   time.Time        `json:"created"`
	Host      string           `json:"host"`
	Signer    string           `json:"signer"`
	Retention retention.Policy `json:"retention"`
}

// String names the vault and, where one laid it, its host: the second machine's own
// `vault init` knows none.
func (i VaultInfo) String() string {
	if i.Host == "" {
		return "vault " + i.ID
	}
	return "vault " + i.ID + " of host " + i.Host
}

// PushID names one attempt to bring a snapshot into the vault.
type PushID string

var pushPattern = regexp.MustCompile(`^([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{6}$`)

// Stamp returns the snapshot's stamp, or false for what is no push id.
func (p PushID) Stamp() (snapshot.Stamp, bool) {
	m := pushPattern.FindStringSubmatch(string(p))
	if m == nil {
		return "", false
	}
	stamp, err := snapshot.ParseStamp(m[1])
	return stamp, err == nil
}

func (p PushID) object(suffix string) string { return snapshotsDir + "/" + string(p) + suffix }

var packPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}-[0-9]{6}$`)

func packName(id string) string { return packsDir + "/" + id + packSuffix }

// Info is snapshots/<PUSH>.json: what prune must know without a key.
type Info struct {
	Stamp  snapshot.Stamp `json:"stamp"`
	Kind   snapshot.Kind  `json:"kind"`
	Full   bool           `json:"full"`
	Pinned bool           `json:"pinned"`
	Seq    int64          `json:"seq"`

	// Suspect are the codes of what shrank when the snapshot was taken.
	Suspect []string `json:"suspect,omitempty"`
}

// equal reports whether two documents say the same.
func (i Info) equal(j Info) bool {
	return i.Stamp == j.Stamp && i.Kind == j.Kind && i.Full == j.Full && i.Pinned == j.Pinned && i.Seq == j.Seq &&
		slices.Equal(i.Suspect, j.Suspect)
}

// Manifest says which page of which file lies where.
type Manifest struct {
	Format     int            `json:"format"`
	Stamp      snapshot.Stamp `json:"stamp"`
	Created    time.Time      `json:"created"`
	Host       string         `json:"host"`
	PageSize   int            `json:"page_size"`
	Packs      []string       `json:"packs"`
	Metadata   string         `json:"metadata"`             // backup-metadata.json, verbatim
	Atobackupd string         `json:"atobackupd"`           // atobackupd.json, verbatim; "" where there is none
	Recipients []string       `json:"recipients,omitempty"` // who can open what this push has sent
	Files      []FileEntry    `json:"files"`
}

// FileEntry is a file of the snapshot and its two layers of pages.
type FileEntry struct {
	snapshot.File
	Base  []Run `json:"base,omitempty"`
	Patch []Run `json:"patch,omitempty"`
}

// Run places Pages consecutive pages of a file, from FilePage on, at PackPage of
// the pack with index Pack. In JSON it is an array of four numbers.
type Run struct {
	FilePage, Pages, Pack, PackPage int64
}

// MarshalJSON returns [file_page, pages, pack_index, pack_page].
func (r Run) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d,%d,%d]", r.FilePage, r.Pages, r.Pack, r.PackPage), nil
}

// UnmarshalJSON takes exactly four numbers.
func (r *Run) UnmarshalJSON(data []byte) error {
	var n []int64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	if len(n) != 4 {
		return fmt.Errorf("a run has %d numbers, not 4", len(n))
	}
	*r = Run{n[0], n[1], n[2], n[3]}
	return nil
}

// pages returns how many pages a file of size bytes has.
func pages(size int64) int64 { return (size + PageSize - 1) / PageSize }

// packID returns the id of a pack named by its path from the vault's root.
func packID(name string) (id string, ok bool) {
	id, inPacks := strings.CutPrefix(name, packsDir+"/")
	id, isAge := strings.CutSuffix(id, packSuffix)
	return id, inPacks && isAge
}

// xorBytes makes dst what it differs from src in; dst is not longer than src.
func xorBytes(dst, src []byte) { subtle.XORBytes(dst, dst, src) }
