package config

import (
	"regexp"
	"strings"
)

// identity is what every secret key contains, of age, of its plugins or of ssh.
var identity = regexp.MustCompile(`(?i)AGE-(SECRET-KEY|PLUGIN)-|PRIVATE KEY`)

func (v *validation) recipients() {
	e := v.c.Encryption
	v.enum("encryption.compression", e.Compression, "fastest", "default", "better")
	classic, postQuantum := 0, 0
	for i, recipient := range e.Recipients {
		switch recipient = strings.TrimSpace(recipient); {
		case strings.HasPrefix(recipient, "age1pq1"):
			postQuantum++
		case strings.HasPrefix(recipient, "age1"), strings.HasPrefix(recipient, "ssh-ed25519 "),
			strings.HasPrefix(recipient, "ssh-rsa "):
			classic++
		default:
			v.noRecipient(i, recipient)
		}
	}
	if classic > 0 && postQuantum > 0 {
		v.add("encryption.recipients", `use "age1pq1…" keys only, or none of them`,
			"encryption.recipients: post-quantum and classic recipients cannot be mixed")
	}
	if len(v.c.Offsite) > 0 && len(e.Recipients) == 0 && e.RecipientsFile == "" {
		v.add("encryption.recipients", `set recipients = ["age1…"]; age-keygen or atobackupd init makes a key`,
			"encryption.recipients is empty, but there are off-site targets: nothing ever leaves in the clear")
	}
}

// noRecipient says what an entry is that is no public key; a secret key is not
// shown.
func (v *validation) noRecipient(i int, recipient string) {
	key := element("encryption.recipients", i)
	switch {
	case identity.MatchString(recipient):
		v.add(key, "remove it from this machine and put its public key here; age-keygen -y gives it",
			"encryption.recipients: entry %d is a secret key (not shown): this machine must not be able to read "+
				"what it ships", i+1)
	case strings.HasPrefix(recipient, "/"):
		v.add(key, "use recipients_file for a file", "encryption.recipients: %s is a path, not a public key",
			quoted(recipient))
	default:
		v.add(key, `write "age1…", "age1pq1…", "ssh-ed25519 …" or "ssh-rsa …"`,
			"encryption.recipients: %s is no public key", quoted(recipient))
	}
}
