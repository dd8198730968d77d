package setup

import (
	_ "embed"
	"io/fs"
	"strings"
	"text/template"

	"github.com/atocore/atobackupd"
)

// SecondMachine is what the script for the machine that keeps the copies is made
// of. docs/laptop.md shows the script as it is made here.
type SecondMachine struct {
	Host, Target string // this machine, and what it calls the other one
	User, Path   string // the account there, and the vault
	SSHKey       string // the public key that may log in
	Signer       string // the public key that signs the copies
	AppendOnly   bool
}

//go:embed secondmachine.sh
var secondMachineText string

var secondMachineScript = template.Must(template.New("").Parse(secondMachineText))

const (
	appendOnlySFTP = "internal-sftp -l INFO -u 0377 -p open,close,read,write,lstat,fstat,stat,opendir," +
		"readdir,realpath,statvfs,fsync,hardlink,limits"
	ordinarySFTP = "internal-sftp"
)

// ForceCommand is what the account may do, in sshd's words.
func (m SecondMachine) ForceCommand() string {
	if m.AppendOnly {
		return appendOnlySFTP
	}
	return ordinarySFTP
}

// unit is a systemd unit of the second machine, without its comments.
type unit struct{ Name, Text string }

// Units are the units that verify and prune the vault.
func (m SecondMachine) Units() (units []unit, err error) {
	const dir = "contrib/systemd"
	entries, err := fs.ReadDir(atobackupd.VaultUnits, dir)
	for _, entry := range entries {
		text, readErr := fs.ReadFile(atobackupd.VaultUnits, dir+"/"+entry.Name())
		if readErr != nil {
			return nil, readErr
		}
		var kept strings.Builder
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				kept.WriteString(line)
			}
		}
		units = append(units, unit{entry.Name(), kept.String()})
	}
	return units, err
}

// Script is what is run on the second machine, as root.
func (m SecondMachine) Script() (string, error) {
	var b strings.Builder
	err := secondMachineScript.Execute(&b, m)
	return b.String(), err
}
