package config

import (
	"strings"
	"testing"
)

// No path is read from where the program happens to run, or from whose home.
func TestPaths(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `state_dir = "x/y"`, `3:13: state_dir = "x/y": not absolute: write the whole path, from /`},
		{minimal, `state_dir = "~/y"`, `3:13: state_dir = "~/y": not absolute: write the whole path, from /`},
		{minimal, `state_dir = "$HOME/y"`, `3:13: state_dir = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `state_dir = "/a/../y"`,
			`3:13: state_dir = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path without ` +
				".."},
		{minimal, `state_dir = "/"`, `3:13: state_dir = "/": the root of the file system: name a directory of its own`},
		{minimal, `atocore.db_path = "x/y"`,
			`1:19: atocore.db_path = "x/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.db_path = "~/y"`,
			`1:19: atocore.db_path = "~/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.db_path = "$HOME/y"`,
			`1:19: atocore.db_path = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.db_path = "/a/../y"`,
			`1:19: atocore.db_path = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path ` +
				"without .."},
		{minimal, `atocore.db_path = "/"`,
			`1:19: atocore.db_path = "/": the root of the file system: name a directory of its own`},
		{minimal, `atocore.registry_path = "x/y"`,
			`3:25: atocore.registry_path = "x/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.registry_path = "~/y"`,
			`3:25: atocore.registry_path = "~/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.registry_path = "$HOME/y"`,
			`3:25: atocore.registry_path = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.registry_path = "/a/../y"`,
			`3:25: atocore.registry_path = "/a/../y": ".." leads elsewhere behind a symbolic link: write the ` +
				"path without .."},
		{minimal, `atocore.registry_path = "/"`,
			`3:25: atocore.registry_path = "/": the root of the file system: name a directory of its own`},
		{minimal, `atocore.chroma_path = "x/y"`,
			`3:23: atocore.chroma_path = "x/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.chroma_path = "~/y"`,
			`3:23: atocore.chroma_path = "~/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.chroma_path = "$HOME/y"`,
			`3:23: atocore.chroma_path = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `atocore.chroma_path = "/a/../y"`,
			`3:23: atocore.chroma_path = "/a/../y": ".." leads elsewhere behind a symbolic link: write the ` +
				"path without .."},
		{minimal, `atocore.chroma_path = "/"`,
			`3:23: atocore.chroma_path = "/": the root of the file system: name a directory of its own`},
		{minimal, `backup.dir = "x/y"`, `2:14: backup.dir = "x/y": not absolute: write the whole path, from /`},
		{minimal, `backup.dir = "~/y"`, `2:14: backup.dir = "~/y": not absolute: write the whole path, from /`},
		{minimal, `backup.dir = "$HOME/y"`, `2:14: backup.dir = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `backup.dir = "/a/../y"`,
			`2:14: backup.dir = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path without ` +
				".."},
		{minimal, `backup.dir = "/"`,
			`2:14: backup.dir = "/": the root of the file system: name a directory of its own`},
		{minimal, `encryption.recipients_file = "x/y"`,
			`3:30: encryption.recipients_file = "x/y": not absolute: write the whole path, from /`},
		{minimal, `encryption.recipients_file = "~/y"`,
			`3:30: encryption.recipients_file = "~/y": not absolute: write the whole path, from /`},
		{minimal, `encryption.recipients_file = "$HOME/y"`,
			`3:30: encryption.recipients_file = "$HOME/y": not absolute: write the whole path, from /`},
		{minimal, `encryption.recipients_file = "/a/../y"`,
			`3:30: encryption.recipients_file = "/a/../y": ".." leads elsewhere behind a symbolic link: write ` +
				"the path without .."},
		{minimal, `encryption.recipients_file = "/"`,
			`3:30: encryption.recipients_file = "/": the root of the file system: name a directory of its own`},
		{minimal, `notify.urls_file = "x/y"`,
			"3:20: notify.urls_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `notify.urls_file = "~/y"`,
			"3:20: notify.urls_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `notify.urls_file = "$HOME/y"`,
			"3:20: notify.urls_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `notify.urls_file = "/a/../y"`,
			`3:20: notify.urls_file = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path ` +
				"without .."},
		{minimal, `notify.urls_file = "/"`,
			`3:20: notify.urls_file = "/": the root of the file system: name a directory of its own`},
		{minimal, `http.token_file = "x/y"`,
			"3:19: http.token_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `http.token_file = "~/y"`,
			"3:19: http.token_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `http.token_file = "$HOME/y"`,
			"3:19: http.token_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `http.token_file = "/a/../y"`,
			`3:19: http.token_file = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path ` +
				"without .."},
		{minimal, `http.token_file = "/"`,
			`3:19: http.token_file = "/": the root of the file system: name a directory of its own`},
		{laptop, `identity_file = "x/y"`,
			`10:17: offsite.identity_file = "x/y": not absolute: write the whole path, from /`},
		{laptop, `identity_file = "~/.ssh/y"`,
			`10:17: offsite.identity_file = "~/.ssh/y": not absolute: write the whole path, from /`},
		{laptop, `identity_file = "/a/../y"`,
			`10:17: offsite.identity_file = "/a/../y": ".." leads elsewhere behind a symbolic link: write the ` +
				"path without .."},
		{laptop, `identity_file = "/"`,
			`10:17: offsite.identity_file = "/": the root of the file system: name a directory of its own`},
		{laptop, `known_hosts = "x/y"`,
			`8:15: offsite.known_hosts = "x/y": not absolute: write the whole path, from /`},
		{laptop, `known_hosts = "~/.ssh/y"`,
			`8:15: offsite.known_hosts = "~/.ssh/y": not absolute: write the whole path, from /`},
		{laptop, `known_hosts = "/a/../y"`,
			`8:15: offsite.known_hosts = "/a/../y": ".." leads elsewhere behind a symbolic link: write the ` +
				"path without .."},
		{laptop, `known_hosts = "/"`,
			`8:15: offsite.known_hosts = "/": the root of the file system: name a directory of its own`},
		{cloud, `credentials_file = "x/y"`,
			`9:20: offsite.credentials_file = "x/y": not absolute: write the whole path, from /`},
		{cloud, `credentials_file = "~/.ssh/y"`,
			`9:20: offsite.credentials_file = "~/.ssh/y": not absolute: write the whole path, from /`},
		{cloud, `credentials_file = "/a/../y"`,
			`9:20: offsite.credentials_file = "/a/../y": ".." leads elsewhere behind a symbolic link: write ` +
				"the path without .."},
		{cloud, `credentials_file = "/"`,
			`9:20: offsite.credentials_file = "/": the root of the file system: name a directory of its own`},
		{disk, `path = "x/y"`, `7:8: offsite.path = "x/y": not absolute: write the whole path, from /`},
		{disk, `path = "~/.ssh/y"`, `7:8: offsite.path = "~/.ssh/y": not absolute: write the whole path, from /`},
		{disk, `path = "/a/../y"`,
			`7:8: offsite.path = "/a/../y": ".." leads elsewhere behind a symbolic link: write the path ` +
				"without .."},
		{disk, `path = "/"`, `7:8: offsite.path = "/": the root of the file system: name a directory of its own`},
		{laptop, `path = "~/vault"`, `9:8: offsite.path = "~/vault": not absolute: write the whole path, from /`},
		{minimal, `state_dir = "/a\u0000b"`, "3:13: state_dir: has a NUL byte in it: write the path alone"},
		{minimal, `atocore.registry_path = "AGE-SECRET-KEY-1HUNTER2"`,
			"3:25: atocore.registry_path: this is a secret key (not shown), not a path: keep it off this " +
				"machine; age-keygen -y gives its public key"},
		{minimal, `http.token_file = "hunter2"`,
			"3:19: http.token_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `notify.urls_file = "ntfy://hunter2/x"`,
			"3:20: notify.urls_file: not an absolute path (it is not shown because it may be the secret " +
				"itself): write the secret into a file and its whole path here"},
		{minimal, `encryption.recipients_file = "AGE-PLUGIN-YUBIKEY-1HUNTER2"`,
			"3:30: encryption.recipients_file: this is a secret key (not shown), not a path: keep it off this " +
				"machine; age-keygen -y gives its public key"},
		{laptop, `identity_file = "-----BEGIN OPENSSH PRIVATE KEY-----"`,
			"10:17: offsite.identity_file: this is a secret key (not shown), not a path: keep it off this " +
				"machine; age-keygen -y gives its public key"},
	})
}

// Paths are written the short way; those of another machine are its own.
func TestTidyPaths(t *testing.T) {
	accept(t, []acceptance{
		{minimal, `state_dir = "//a/./b/"`, "state_dir", "/a/b"},
		{minimal, `atocore.db_path = "//a/./b/"`, "atocore.db_path", "/a/b"},
		{minimal, `atocore.registry_path = "//a/./b/"`, "atocore.registry_path", "/a/b"},
		{minimal, `atocore.chroma_path = "//a/./b/"`, "atocore.chroma_path", "/a/b"},
		{minimal, `backup.dir = "//a/./b/"`, "backup.dir", "/a/b"},
		{minimal, `encryption.recipients_file = "//a/./b/"`, "encryption.recipients_file", "/a/b"},
		{minimal, `notify.urls_file = "//a/./b/"`, "notify.urls_file", "/a/b"},
		{minimal, `http.token_file = "//a/./b/"`, "http.token_file", "/a/b"},
		{laptop, `identity_file = "/a/b//c/"`, "offsite.identity_file", "/a/b/c"},
		{laptop, `known_hosts = "/a/b//c/"`, "offsite.known_hosts", "/a/b/c"},
		{cloud, `credentials_file = "/a/b//c/"`, "offsite.credentials_file", "/a/b/c"},
		{disk, `path = "/a/b//c/"`, "offsite.path", "/a/b/c"},
		{laptop, `path = "/vault/../x"`, "offsite.path", "/vault/../x"},
	})
}

// What is copied, swept or exchanged as a whole holds nothing else.
func TestPlacesApart(t *testing.T) {
	refuse(t, []refusal{
		{minimal, "backup.dir = \"/data/chroma/b\"\natocore.chroma_path = \"/data/chroma\"",
			`2:14: backup.dir = "/data/chroma/b": lies inside atocore.chroma_path (/data/chroma): snapshots ` +
				"would hold each other, and a restore would replace them: move one of them"},
		{minimal, `atocore.chroma_path = "/backups/chroma"`,
			`3:23: atocore.chroma_path = "/backups/chroma": lies inside backup.dir (/backups): live data lies ` +
				"outside the backups: move one of them"},
		{minimal, `atocore.db_path = "/backups/x.db"`,
			`1:19: atocore.db_path = "/backups/x.db": lies inside backup.dir (/backups): live data lies ` +
				"outside the backups: move one of them"},
		{minimal, `atocore.registry_path = "/backups/r.json"`,
			`3:25: atocore.registry_path = "/backups/r.json": lies inside backup.dir (/backups): live data ` +
				"lies outside the backups: move one of them"},
		{minimal, `atocore.chroma_path = "/data"`,
			`1:19: atocore.db_path = "/data/db": lies inside atocore.chroma_path (/data): a restore of Chroma ` +
				"would replace it: move one of them"},
		{minimal, "state_dir = \"/data/chroma/s\"\natocore.chroma_path = \"/data/chroma\"",
			`3:13: state_dir = "/data/chroma/s": lies inside atocore.chroma_path (/data/chroma): a restore of ` +
				"Chroma would replace it: move one of them"},
		{minimal, `state_dir = "/backups/snapshots"`,
			`3:13: state_dir = "/backups/snapshots": lies inside snapshots of backup.dir, where only backups ` +
				`may be: move it, e.g. to "/var/lib/atobackupd"`},
		{minimal, `state_dir = "/backups/staging/x"`,
			`3:13: state_dir = "/backups/staging/x": lies inside staging of backup.dir, where only backups may ` +
				`be: move it, e.g. to "/var/lib/atobackupd"`},
		{minimal, `state_dir = "/backups/quarantine"`,
			`3:13: state_dir = "/backups/quarantine": lies inside quarantine of backup.dir, where only backups ` +
				`may be: move it, e.g. to "/var/lib/atobackupd"`},
		{minimal, `state_dir = "/backups/base/x"`,
			`3:13: state_dir = "/backups/base/x": lies inside base of backup.dir, where only backups may be: ` +
				`move it, e.g. to "/var/lib/atobackupd"`},
		{minimal, `state_dir = "/data"`,
			`3:13: state_dir = "/data": is the directory of atocore.db_path, and nobody but this program may ` +
				`enter it: move it, e.g. to "/var/lib/atobackupd"`},
		{disk, `path = "/var/lib/atobackupd/vault"`,
			`7:8: offsite.path = "/var/lib/atobackupd/vault": lies inside state_dir (/var/lib/atobackupd): a ` +
				"vault beside the keys dies with them: move one of them"},
		{disk, `path = "/backups"`,
			`2:14: backup.dir = "/backups": lies inside offsite.path (/backups): a vault beside the backups ` +
				"dies with them: move one of them\n" +
				`7:8: offsite.path = "/backups": lies inside backup.dir (/backups): a vault beside the backups ` +
				"dies with them: move one of them"},
		{disk, `path = "/backups/vault"`,
			`7:8: offsite.path = "/backups/vault": lies inside backup.dir (/backups): a vault beside the ` +
				"backups dies with them: move one of them"},
		{disk, "path = \"/mnt\"\nbackup.dir = \"/mnt/b\"",
			`2:14: backup.dir = "/mnt/b": lies inside offsite.path (/mnt): a vault beside the backups dies ` +
				"with them: move one of them"},
	})
}

// Neighbours are apart, however alike their names are.
func TestPlacesThatMayBe(t *testing.T) {
	accept(t, []acceptance{
		{minimal, `state_dir = "/backups/state"`, "state_dir", "/backups/state"},
		{minimal, `state_dir = "/backups"`, "state_dir", "/backups"},
		{minimal, `atocore.registry_path = "/backups2/r.json"`, "atocore.registry_path", "/backups2/r.json"},
		{minimal,
			"atocore.chroma_path = \"/data/chroma\"\natocore.registry_path = \"/data/chroma.json\"",
			"atocore.registry_path",
			"/data/chroma.json"},
		{disk, `path = "/backups.vault"`, "offsite.path", "/backups.vault"},
		{laptop, `path = "/backups/vault"`, "offsite.path", "/backups/vault"},
	})
}

// Two targets in one place would be one copy that looks like two.
func TestTargetsApart(t *testing.T) {
	dir := func(path string) string { return "type = \"dir\"\npath = \"" + path + "\"\n" }
	sftp := func(hosts, path, more string) string {
		return "hosts = [" + hosts + "]\nuser = \"u\"\nknown_hosts = \"/k\"\npath = \"" + path + "\"\n" + more
	}
	s3 := func(endpoint, bucket, prefix string) string {
		return "type = \"s3\"\nendpoint = \"" + endpoint + "\"\nbucket = \"" + bucket + "\"\nprefix = \"" + prefix + "\"\n"
	}
	for _, test := range []struct {
		one, two string
		apart    bool
	}{
		{dir("/v"), dir("/v"), false},
		{dir("/v"), dir("/v/"), false},
		{dir("/v"), dir("/./v"), false},
		{dir("/v"), dir("/v/sub"), false},
		{dir("/v/sub"), dir("/v"), false},
		{dir("/v"), dir("/v2"), true},
		{sftp(`"a"`, "/v", ""), sftp(`"A"`, "/v/", ""), false},
		{sftp(`"a", "b"`, "/v", ""), sftp(`"b"`, "/v/x", ""), false},
		{sftp(`"a"`, "/v", ""), sftp(`"a"`, "/v", "port = 22\n"), false},
		{sftp(`"a"`, "/v", ""), sftp(`"a"`, "/v", "port = 2222\n"), true},
		{sftp(`"a"`, "/v", ""), sftp(`"b"`, "/v", ""), true},
		{sftp(`"a"`, "/v", ""), sftp(`"a"`, "/w", ""), true},
		{sftp(`"a"`, "/v", ""), dir("/v"), true},
		{s3("https://s3.example", "vault", ""), s3("https://s3.example/", "vault", ""), false},
		{s3("https://s3.example", "vault", ""), s3("https://s3.example", "vault", "x"), false},
		{s3("https://s3.example", "vault", "x"), s3("https://s3.example", "vault", "x/"), false},
		{s3("https://s3.example", "vault", "x"), s3("https://s3.example", "vault", "xy"), true},
		{s3("https://s3.example", "vault", "x"), s3("https://s3.example", "other", "x"), true},
	} {
		text := minimal + "encryption.recipients = [\"age1laptop\"]\n[[offsite]]\nname = \"one\"\n" + test.one +
			"[[offsite]]\nname = \"two\"\n" + test.two
		_, err := Parse("test.toml", []byte(text))
		told := err != nil && strings.Contains(err.Error(), `[[offsite]] "two" lies in the place of "one"`)
		if told == test.apart || test.apart && err != nil {
			t.Errorf("%s%s: %v", test.one, test.two, err)
		}
	}
}
