package config

import "testing"

// Keys of another type of target: one of the two is a mistake.
func TestKeysOfOtherTargets(t *testing.T) {
	refuse(t, []refusal{
		{disk, `connect_timeout = "30s"`,
			`8:19: offsite.connect_timeout means nothing to a target of type = "dir": remove it, or set type = ` +
				`"sftp"`},
		{disk, `endpoint = "https://h"`,
			`8:12: offsite.endpoint means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `bucket = "bbb"`,
			`8:10: offsite.bucket means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `prefix = "p"`,
			`8:10: offsite.prefix means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `region = "r"`,
			`8:10: offsite.region means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `lock_for = "30d"`,
			`8:12: offsite.lock_for means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `lock_for = "off"`,
			`8:12: offsite.lock_for means nothing to a target of type = "dir": remove it, or set type = "s3"`},
		{disk, `credentials_file = "/c"`,
			`8:20: offsite.credentials_file means nothing to a target of type = "dir": remove it, or set type ` +
				`= "s3"`},
		{laptop, "removable = true",
			`10:13: offsite.removable means nothing to a target of type = "sftp": remove it, or set type = ` +
				`"dir"`},
		{laptop, `endpoint = "https://h"`,
			`10:12: offsite.endpoint means nothing to a target of type = "sftp": remove it, or set type = "s3"`},
		{laptop, `bucket = "bbb"`,
			`10:10: offsite.bucket means nothing to a target of type = "sftp": remove it, or set type = "s3"`},
		{laptop, `prefix = "p"`,
			`10:10: offsite.prefix means nothing to a target of type = "sftp": remove it, or set type = "s3"`},
		{laptop, `region = "r"`,
			`10:10: offsite.region means nothing to a target of type = "sftp": remove it, or set type = "s3"`},
		{laptop, `lock_for = "30d"`,
			`10:12: offsite.lock_for means nothing to a target of type = "sftp": remove it, or set type = "s3"`},
		{laptop, `credentials_file = "/c"`,
			`10:20: offsite.credentials_file means nothing to a target of type = "sftp": remove it, or set ` +
				`type = "s3"`},
		{cloud, `hosts = ["h"]`,
			`9:1: offsite.hosts means nothing to a target of type = "s3": remove it, or set type = "sftp"`},
		{cloud, "port = 22",
			`9:8: offsite.port means nothing to a target of type = "s3": remove it, or set type = "sftp"`},
		{cloud, `user = "u"`,
			`9:8: offsite.user means nothing to a target of type = "s3": remove it, or set type = "sftp"`},
		{cloud, `identity_file = "/k"`,
			`9:17: offsite.identity_file means nothing to a target of type = "s3": remove it, or set type = ` +
				`"sftp"`},
		{cloud, `known_hosts = "/k"`,
			`9:15: offsite.known_hosts means nothing to a target of type = "s3": remove it, or set type = ` +
				`"sftp"`},
		{cloud, `transport = "builtin"`,
			`9:13: offsite.transport means nothing to a target of type = "s3": remove it, or set type = "sftp"`},
		{cloud, "append_only = true",
			`9:15: offsite.append_only means nothing to a target of type = "s3": remove it: a bucket with ` +
				"Object Lock keeps what lock_for says"},
		{cloud, `path = "/v"`,
			`9:8: offsite.path means nothing to a target of type = "s3": remove it, or set type = "sftp"`},
		{cloud, "removable = true",
			`9:13: offsite.removable means nothing to a target of type = "s3": remove it, or set type = "dir"`},
	})
}

// The names and addresses of a target.
func TestNamesOfTargets(t *testing.T) {
	refuse(t, []refusal{
		{laptop, `name = ""`, `5:8: offsite.name is required: every target has one, e.g. name = "laptop"`},
		{laptop, `name = "a b"`,
			`5:8: offsite.name = "a b": must be 1 to 64 of a-z, 0-9, "-" and "_", and begin with a letter or ` +
				"digit: it names directories"},
		{laptop, `name = ".."`,
			`5:8: offsite.name = "..": must be 1 to 64 of a-z, 0-9, "-" and "_", and begin with a letter or ` +
				"digit: it names directories"},
		{laptop, `name = "-a"`,
			`5:8: offsite.name = "-a": must be 1 to 64 of a-z, 0-9, "-" and "_", and begin with a letter or ` +
				"digit: it names directories"},
		{laptop, `name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`,
			`5:8: offsite.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be ` +
				`1 to 64 of a-z, 0-9, "-" and "_", and begin with a letter or digit: it names directories`},
		{laptop, `name = "local"`,
			`5:8: offsite.name = "local": means this machine, in what a restore and a drill say: give it another name`},
		{laptop, "hosts = []", `6:1: offsite.hosts is required: name the machine, e.g. hosts = ["laptop.local"]`},
		{laptop, `hosts = ["laptop", ""]`,
			`6:20: offsite.hosts: "" is no host name: write its name or address alone, e.g. "laptop.local"`},
		{laptop, `hosts = ["me@laptop"]`,
			`6:10: offsite.hosts: "me@laptop" is no host name: write its name or address alone, e.g. ` +
				`"laptop.local"`},
		{laptop, `hosts = ["laptop/vault"]`,
			`6:10: offsite.hosts: "laptop/vault" is no host name: write its name or address alone, e.g. ` +
				`"laptop.local"`},
		{laptop, `hosts = ["laptop:2222"]`, `6:10: offsite.hosts: "laptop:2222": the port is a key of its own: ` +
			"write its name or address alone, and port = 2222"},
		{laptop, `hosts = ["a b"]`,
			`6:10: offsite.hosts: "a b" is no host name: write its name or address alone, e.g. "laptop.local"`},
		{laptop, `user = ""`, `7:8: offsite.user is required: name the account there, e.g. user = "atobackup"`},
		{laptop, `user = "-l"`, `7:8: offsite.user = "-l": no account name: write the account alone, e.g. "atobackup"`},
		{laptop, `user = "me@laptop"`,
			`7:8: offsite.user = "me@laptop": no account name: write the account alone, e.g. "atobackup"`},
		{laptop, `user = "a b"`,
			`7:8: offsite.user = "a b": no account name: write the account alone, e.g. "atobackup"`},
		{laptop, `known_hosts = ""`,
			"8:15: offsite.known_hosts is required: name the file of trusted host keys, e.g. known_hosts = " +
				`"/etc/atobackupd/known_hosts"; atobackupd target trust fills it`},
		{laptop, `path = ""`,
			`9:8: offsite.path is required: name the vault's directory, e.g. path = "/home/atobackup/vault"`},
		{asked, `url = "stats"`,
			`4:7: restore.checks.url = "stats": not an http or https address: write one such as ` +
				`"http://127.0.0.1:8100"`},
		{asked, `url = "file:///etc/passwd"`,
			`4:7: restore.checks.url = "file:///etc/passwd": not an http or https address: write one such as ` +
				`"http://127.0.0.1:8100"`},
		{cloud, `endpoint = "s3.example.net"`,
			`7:12: offsite.endpoint = "s3.example.net": no address of an S3 service: write the scheme and the ` +
				`host alone, e.g. "https://s3.example.net"`},
		{cloud, `endpoint = "ftp://s3.example.net"`,
			`7:12: offsite.endpoint = "ftp://s3.example.net": no address of an S3 service: write the scheme ` +
				`and the host alone, e.g. "https://s3.example.net"`},
		{cloud, `endpoint = "https://s3.example.net/vault"`,
			`7:12: offsite.endpoint = "https://s3.example.net/vault": no address of an S3 service: write the ` +
				`scheme and the host alone, e.g. "https://s3.example.net"`},
		{cloud, `endpoint = "https://s3.example.net?x=1"`,
			`7:12: offsite.endpoint = "https://s3.example.net?x=1": no address of an S3 service: write the ` +
				`scheme and the host alone, e.g. "https://s3.example.net"`},
		{cloud, `endpoint = "https://me:hunter2@s3.example.net"`,
			"7:12: offsite.endpoint: credentials do not belong into an address (it is not shown): put them " +
				"into credentials_file"},
		{cloud, `bucket = "a/b"`, `8:10: offsite.bucket = "a/b": no name of a bucket: write its name alone`},
		{cloud, `bucket = "-x"`, `8:10: offsite.bucket = "-x": no name of a bucket: write its name alone`},
		{cloud, `bucket = "p1"`, `8:10: offsite.bucket = "p1": no name of a bucket: write its name alone`},
		{cloud, `bucket = "x"`, `8:10: offsite.bucket = "x": no name of a bucket: write its name alone`},
		{cloud, `bucket = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`,
			`8:10: offsite.bucket = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": no ` +
				"name of a bucket: write its name alone"},
		{cloud, `prefix = "../x"`,
			`9:10: offsite.prefix = "../x": no prefix of object names: write names with "/" between them, e.g. ` +
				`"dalidou"`},
		{cloud, `prefix = "a//b"`,
			`9:10: offsite.prefix = "a//b": no prefix of object names: write names with "/" between them, e.g. ` +
				`"dalidou"`},
		{cloud, `prefix = "a/./b"`,
			`9:10: offsite.prefix = "a/./b": no prefix of object names: write names with "/" between them, ` +
				`e.g. "dalidou"`},
		{cloud, `prefix = "a\u0007"`,
			`9:10: offsite.prefix = "a�": no prefix of object names: write names with "/" between them, e.g. ` +
				`"dalidou"`},
	})
}

func TestNamesThatMayBe(t *testing.T) {
	accept(t, []acceptance{
		{laptop, `name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`, "offsite.name",
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{laptop, `name = "0-a_b"`, "offsite.name", "0-a_b"},
		{laptop, `hosts = ["fd7a::1", "100.64.0.2"]`, "offsite.hosts", "[fd7a::1 100.64.0.2]"},
		{laptop, "transport = \"openssh\"\nuser = \"\"\nknown_hosts = \"\"", "offsite.user", ""},
		{minimal, `atocore.api_url = "https://h:8100/x/"`, "atocore.api_url", "https://h:8100/x"},
		{minimal, `atocore.health_url = "https://h:8100/x/"`, "atocore.health_url", "https://h:8100/x/"},
		{cloud, `endpoint = "http://127.0.0.1:9000/"`, "offsite.endpoint", "http://127.0.0.1:9000/"},
		{cloud, `bucket = "My.bucket_1"`, "offsite.bucket", "My.bucket_1"},
		{cloud, `prefix = "/a/b/"`, "offsite.prefix", "a/b"},
		{cloud, `prefix = "/"`, "offsite.prefix", ""},
		{disk, "removable = true", "offsite.removable", "true"},
		{laptop, `identity_file = "/k"`, "offsite.identity_file", "/k"},
		{cloud, `region = "eu"`, "offsite.region", "eu"},
	})
}
