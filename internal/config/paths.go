package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// localPath is a key whose value is a path on this machine.
type localPath struct {
	key   string
	value *string
}

func (c *Config) paths() []localPath {
	paths := []localPath{
		{"state_dir", &c.StateDir},
		{"atocore.db_path", &c.AtoCore.DBPath},
		{"atocore.registry_path", &c.AtoCore.RegistryPath},
		{"atocore.chroma_path", &c.AtoCore.ChromaPath},
		{"backup.dir", &c.Backup.Dir},
		{"encryption.recipients_file", &c.Encryption.RecipientsFile},
		{"notify.urls_file", &c.Notify.URLsFile},
		{"http.token_file", &c.HTTP.TokenFile},
	}
	for i := range c.Offsite {
		t, key := &c.Offsite[i], element("offsite", i)
		paths = append(paths, localPath{key + ".identity_file", &t.IdentityFile},
			localPath{key + ".known_hosts", &t.KnownHosts}, localPath{key + ".credentials_file", &t.CredentialsFile})
		if t.Type == "dir" {
			paths = append(paths, localPath{key + ".path", &t.Path})
		}
	}
	return paths
}

// tidy is a path written the short way. One with ".." stays as it is: after a
// symbolic link it does not lead where its text says.
func tidy(path string) string {
	if path == "" || hasDotDot(path) {
		return path
	}
	return filepath.Clean(path)
}

func hasDotDot(path string) bool { return slices.Contains(strings.Split(path, "/"), "..") }

func (v *validation) paths() {
	for _, p := range v.c.paths() {
		v.path(p.key, *p.value)
	}
	v.checkDisjoint()
}

func (v *validation) path(key, path string) {
	switch {
	case path == "":
	case identity.MatchString(path):
		v.add(key, "keep it off this machine; age-keygen -y gives its public key",
			"%s: this is a secret key (not shown), not a path", shown(key))
	case !filepath.IsAbs(path) && (key == "http.token_file" || key == "notify.urls_file"):
		v.add(key, "write the secret into a file and its whole path here",
			"%s: not an absolute path (it is not shown because it may be the secret itself)", key)
	case !filepath.IsAbs(path):
		v.add(key, "write the whole path, from /", "%s = %s: not absolute", shown(key), quoted(path))
	case hasDotDot(path):
		v.add(key, "write the path without ..", `%s = %s: ".." leads elsewhere behind a symbolic link`, shown(key),
			quoted(path))
	case strings.ContainsRune(path, 0):
		v.add(key, "write the path alone", "%s: has a NUL byte in it", shown(key))
	case path == "/":
		v.add(key, "name a directory of its own", "%s = %s: the root of the file system", shown(key), quoted(path))
	}
}

// checkDisjoint requires that no place holds another that is copied, swept or exchanged
// as a whole.
func (v *validation) checkDisjoint() {
	c := v.c
	dir, chroma, db := c.Backup.Dir, c.AtoCore.ChromaPath, c.AtoCore.DBPath
	v.outside("backup.dir", dir, "atocore.chroma_path", chroma,
		"snapshots would hold each other, and a restore would replace them")
	v.outside("atocore.chroma_path", chroma, "backup.dir", dir, "live data lies outside the backups")
	v.outside("atocore.db_path", db, "backup.dir", dir, "live data lies outside the backups")
	v.outside("atocore.registry_path", c.AtoCore.RegistryPath, "backup.dir", dir, "live data lies outside the backups")
	v.outside("atocore.db_path", db, "atocore.chroma_path", chroma, "a restore of Chroma would replace it")
	v.outside("state_dir", c.StateDir, "atocore.chroma_path", chroma, "a restore of Chroma would replace it")
	for _, managed := range []string{"snapshots", "staging", "quarantine", "base"} {
		if dir != "" && within(c.StateDir, filepath.Join(dir, managed)) {
			v.add("state_dir", `move it, e.g. to "/var/lib/atobackupd"`,
				"state_dir = %s: lies inside %s of backup.dir, where only backups may be", quoted(c.StateDir), managed)
		}
	}
	for i, t := range c.Offsite {
		if t.Type == "dir" {
			key := element("offsite", i) + ".path"
			v.outside(key, t.Path, "backup.dir", dir, "a vault beside the backups dies with them")
			v.outside("backup.dir", dir, key, t.Path, "a vault beside the backups dies with them")
			v.outside(key, t.Path, "atocore.chroma_path", chroma, "a restore of Chroma would replace it")
			v.outside(key, t.Path, "state_dir", c.StateDir, "a vault beside the keys dies with them")
		}
		for _, other := range c.Offsite[:i] {
			if t.Name != other.Name && t.overlaps(other) {
				v.add(element("offsite", i), "remove one of them, or give it a place of its own",
					"[[offsite]] %s lies in the place of %s: two names of one copy are one copy",
					quoted(t.Name), quoted(other.Name))
			}
		}
	}
	for key, live := range map[string]string{"atocore.db_path": db, "atocore.registry_path": c.AtoCore.RegistryPath} {
		if live != "" && c.StateDir == filepath.Dir(live) {
			v.add("state_dir", `move it, e.g. to "/var/lib/atobackupd"`,
				"state_dir = %s: is the directory of %s, and nobody but this program may enter it",
				quoted(c.StateDir), key)
			break
		}
	}
}

// overlaps reports whether the vaults of two targets lie in one place, or one within the
// other, as far as their configuration says: a link, or a host of two names, hides it.
func (t Target) overlaps(other Target) bool {
	either := func(a, b string) bool { return within(a, b) || within(b, a) }
	switch {
	case t.Type != other.Type:
		return false
	case t.Type == "s3":
		prefix := func(t Target) string { return "/bucket/" + strings.Trim(t.Prefix, "/") }
		return strings.EqualFold(strings.TrimSuffix(t.Endpoint, "/"), strings.TrimSuffix(other.Endpoint, "/")) &&
			t.Bucket == other.Bucket && either(prefix(t), prefix(other))
	case t.Type == "sftp":
		sameHost := slices.ContainsFunc(t.Hosts, func(host string) bool {
			return slices.ContainsFunc(other.Hosts, func(o string) bool { return strings.EqualFold(host, o) })
		})
		return sameHost && t.Port == other.Port && either(tidy(t.Path), tidy(other.Path))
	}
	return either(t.Path, other.Path)
}

// outside requires that one path does not lie in another, nor is it.
func (v *validation) outside(key, path, otherKey, other, why string) {
	if key == "atocore.chroma_path" && path == other {
		return // already said of backup.dir
	}
	if within(path, other) {
		v.add(key, "move one of them", "%s = %s: lies inside %s (%s): %s", shown(key), quoted(path), shown(otherKey),
			safe(other), why)
	}
}

func within(path, dir string) bool {
	if path == "" || dir == "" || dir == "/" {
		return false // "/" is refused by itself
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
