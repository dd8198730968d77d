package config

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

func (v *validation) target(i int) {
	t, key := v.c.Offsite[i], element("offsite", i)+"."
	v.targetName(i)
	v.enum(key+"type", t.Type, targetTypes...)
	if t.Type != "s3" {
		v.need(key+"path", t.Path, `name the vault's directory, e.g. path = "/home/atobackup/vault"`)
	}
	v.onlyOwnKeys(t, key)
	switch t.Type {
	case "sftp":
		v.sftp(t, key)
	case "s3":
		v.s3(t, key)
	}
	if t.Type != "dir" {
		v.positive(key+"connect_timeout", t.ConnectTimeout)
	}
	v.positive(key+"retry_every", t.RetryEvery)
	if r := t.RebaseRatio; !(r > 0 && r <= 10) {
		v.add(key+"rebase_ratio", "0.5 is a good one", "offsite.rebase_ratio = %v: must be above 0 and at most 10", r)
	}
	if t.AppendOnly && t.Prune {
		v.add(key+"append_only", "set prune = false and run atobackupd vault prune on the other machine",
			"offsite.append_only = true contradicts prune = true: nothing can be deleted there from here")
	}
	if t.Retention != v.c.Retention { // what it inherits is told of once
		v.retention(key+"retention", t.Retention)
	}
}

func (v *validation) targetName(i int) {
	name, key := v.c.Offsite[i].Name, element("offsite", i)+".name"
	if name == "" {
		v.need(key, name, `every target has one, e.g. name = "laptop"`)
		return
	}
	if !targetName.MatchString(name) {
		v.add(key, "it names directories",
			`offsite.name = %s: must be 1 to 64 of a-z, 0-9, "-" and "_", and begin with a letter or digit`,
			quoted(name))
	}
	if name == "local" {
		v.add(key, "give it another name", `offsite.name = %s: means this machine, in what a restore and a drill say`,
			quoted(name))
	}
	for _, earlier := range v.c.Offsite[:i] {
		if earlier.Name == name {
			v.add(key, "give each target a name of its own", "offsite.name = %s: two targets have this name",
				quoted(name))
			return
		}
	}
}

func (v *validation) sftp(t Target, key string) {
	v.enum(key+"transport", t.Transport, "builtin", "openssh")
	if len(t.Hosts) == 0 {
		v.need(key+"hosts", "", `name the machine, e.g. hosts = ["laptop.local"]`)
	}
	for i, host := range t.Hosts {
		// "-oProxyCommand=…" in place of a host would be an option to ssh.
		if host == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, " \t\n/@\x00") {
			v.add(element(key+"hosts", i), `write its name or address alone, e.g. "laptop.local"`,
				"offsite.hosts: %s is no host name", quoted(host))
		} else if _, port, err := net.SplitHostPort(host); err == nil {
			v.add(element(key+"hosts", i), "write its name or address alone, and port = "+port,
				"offsite.hosts: %s: the port is a key of its own", quoted(host))
		}
	}
	if strings.HasPrefix(t.User, "-") || strings.ContainsAny(t.User, " \t\n@\x00") {
		v.add(key+"user", `write the account alone, e.g. "atobackup"`, "offsite.user = %s: no account name",
			quoted(t.User))
	}
	least := 1
	if t.Transport == "openssh" {
		least = 0
	}
	if t.Port < least || t.Port > 65535 {
		v.add(key+"port", "ssh listens on 22 unless told otherwise", "offsite.port = %d: must be 1 to 65535", t.Port)
	}
	if t.Path != "" && !path.IsAbs(t.Path) {
		v.add(key+"path", "write the whole path, from /", "offsite.path = %s: not absolute", quoted(t.Path))
	}
	if t.Transport == "builtin" {
		v.need(key+"user", t.User, `name the account there, e.g. user = "atobackup"`)
		v.need(key+"known_hosts", t.KnownHosts,
			`name the file of trusted host keys, e.g. known_hosts = "/etc/atobackupd/known_hosts"; `+
				`atobackupd target trust fills it`)
	}
}

// onlyOwnKeys refuses keys of other types: a host beside type = "dir" means that
// one of the two is a mistake, and the vault would land on the wrong disk.
func (v *validation) onlyOwnKeys(t Target, key string) {
	foreign := []struct {
		name  string
		set   bool
		types string // those that know the key
	}{
		{"hosts", len(t.Hosts) > 0, "sftp"},
		{"port", t.Port != 0, "sftp"},
		{"user", t.User != "", "sftp"},
		{"identity_file", t.IdentityFile != "", "sftp"},
		{"known_hosts", t.KnownHosts != "", "sftp"},
		{"transport", t.Transport != "", "sftp"},
		{"append_only", t.AppendOnly, "sftp"},
		{"path", t.Path != "", "sftp dir"},
		{"removable", t.Removable, "dir"},
		{"connect_timeout", t.ConnectTimeout != 0, "sftp s3"},
		{"endpoint", t.Endpoint != "", "s3"},
		{"bucket", t.Bucket != "", "s3"},
		{"prefix", t.Prefix != "", "s3"},
		{"region", t.Region != "", "s3"},
		{"lock_for", t.LockFor != 0, "s3"},
		{"credentials_file", t.CredentialsFile != "", "s3"},
	}
	for _, f := range foreign {
		types := strings.Fields(f.types)
		if !f.set || slices.Contains(types, t.Type) || !slices.Contains(targetTypes, t.Type) {
			continue
		}
		hint := fmt.Sprintf("remove it, or set type = %q", types[0])
		if t.Type == "s3" && f.name == "append_only" {
			hint = "remove it: a bucket with Object Lock keeps what lock_for says"
		}
		v.add(key+f.name, hint, "offsite.%s means nothing to a target of type = %q", f.name, t.Type)
	}
}

func (v *validation) s3(t Target, key string) {
	v.need(key+"endpoint", t.Endpoint, `name the service, e.g. endpoint = "https://s3.example.net"`)
	v.need(key+"bucket", t.Bucket, `name the bucket, e.g. bucket = "vault"`)
	u, err := url.Parse(t.Endpoint)
	switch {
	case t.Endpoint == "":
	case err == nil && u.User != nil:
		v.add(key+"endpoint", "put them into credentials_file",
			"offsite.endpoint: credentials do not belong into an address (it is not shown)")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "":
		v.add(key+"endpoint", `write the scheme and the host alone, e.g. "https://s3.example.net"`,
			"offsite.endpoint = %s: no address of an S3 service", quoted(t.Endpoint))
	}
	if t.Bucket != "" && !bucketName.MatchString(t.Bucket) {
		v.add(key+"bucket", "write its name alone", "offsite.bucket = %s: no name of a bucket", quoted(t.Bucket))
	}
	if p := strings.Trim(t.Prefix, "/"); t.Prefix != "" && (path.Clean(p) != p || hasDotDot(p) ||
		strings.ContainsFunc(p, unicode.IsControl)) {
		v.add(key+"prefix", `write names with "/" between them, e.g. "dalidou"`,
			"offsite.prefix = %s: no prefix of object names", quoted(t.Prefix))
	}
}

var (
	targetTypes = []string{"sftp", "dir", "s3"}
	bucketName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$`)
)
