package config

import "testing"

// Each value that a key of few values has.
func TestValuesOfFew(t *testing.T) {
	accept(t, []acceptance{
		{minimal, `backup.chroma_method = "live"`, "backup.chroma_method", "live"},
		{minimal, `backup.chroma_method = "btrfs"`, "backup.chroma_method", "btrfs"},
		{minimal, `backup.chroma_method = "cold"`, "backup.chroma_method", "cold"},
		{minimal, `backup.chroma_fallback = "live"`, "backup.chroma_fallback", "live"},
		{minimal, `backup.chroma_fallback = "freeze"`, "backup.chroma_fallback", "freeze"},
		{minimal, `backup.chroma_fallback = "btrfs"`, "backup.chroma_fallback", "btrfs"},
		{minimal, `backup.share = "auto"`, "backup.share", "auto"},
		{minimal, `backup.share = "reflink"`, "backup.share", "reflink"},
		{minimal, `backup.share = "hardlink"`, "backup.share", "hardlink"},
		{minimal, `backup.share = "copy"`, "backup.share", "copy"},
		{minimal, `encryption.compression = "fastest"`, "encryption.compression", "fastest"},
		{minimal, `encryption.compression = "default"`, "encryption.compression", "default"},
		{minimal, `encryption.compression = "better"`, "encryption.compression", "better"},
		{minimal, `log.level = "debug"`, "log.level", "debug"},
		{minimal, `log.level = "info"`, "log.level", "info"},
		{minimal, `log.level = "warn"`, "log.level", "warn"},
		{minimal, `log.level = "error"`, "log.level", "error"},
		{minimal, `log.format = "text"`, "log.format", "text"},
		{minimal, `log.format = "json"`, "log.format", "json"},
		{minimal, `log.format = "auto"`, "log.format", "auto"},
		{laptop, `transport = "openssh"`, "offsite.transport", "openssh"},
		{asked, `method = "HEAD"`, "restore.checks.method", "HEAD"},
		{asked, `method = "POST"`, "restore.checks.method", "POST"},
		{asked, `method = "PUT"`, "restore.checks.method", "PUT"},
	})
}

// What comes near to one of them is told.
func TestNoneOfFew(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `backup.chroma_method = "Live"`,
			`3:24: backup.chroma_method = "Live": must be one of live, api, freeze, btrfs, cold: did you mean ` +
				`"live"?`},
		{minimal, `backup.chroma_method = "liv"`,
			`3:24: backup.chroma_method = "liv": must be one of live, api, freeze, btrfs, cold: did you mean ` +
				`"live"?`},
		{minimal, `backup.chroma_method = "snapshot"`,
			`3:24: backup.chroma_method = "snapshot": must be one of live, api, freeze, btrfs, cold`},
		{minimal, `backup.chroma_method = ""`,
			`3:24: backup.chroma_method = "": must be one of live, api, freeze, btrfs, cold`},
		{minimal, `backup.chroma_fallback = "cold"`,
			`3:26: backup.chroma_fallback = "cold": must be one of live, freeze, btrfs`},
		{minimal, `backup.chroma_fallback = "api"`,
			`3:26: backup.chroma_fallback = "api": must be one of live, freeze, btrfs`},
		{minimal, `backup.chroma_fallback = "frezze"`,
			`3:26: backup.chroma_fallback = "frezze": must be one of live, freeze, btrfs: did you mean ` +
				`"freeze"?`},
		{minimal, `backup.chroma_fallback = ""`,
			`3:26: backup.chroma_fallback = "": must be one of live, freeze, btrfs`},
		{minimal, `backup.share = "hard"`,
			`3:16: backup.share = "hard": must be one of auto, reflink, hardlink, copy: did you mean ` +
				`"hardlink"?`},
		{minimal, `backup.share = "ref-link"`,
			`3:16: backup.share = "ref-link": must be one of auto, reflink, hardlink, copy: did you mean ` +
				`"reflink"?`},
		{minimal, `backup.share = "none"`, `3:16: backup.share = "none": must be one of auto, reflink, hardlink, copy`},
		{minimal, `backup.share = ""`, `3:16: backup.share = "": must be one of auto, reflink, hardlink, copy`},
		{minimal, `encryption.compression = "fast"`,
			`3:26: encryption.compression = "fast": must be one of fastest, default, better: did you mean ` +
				`"fastest"?`},
		{minimal, `encryption.compression = "zstd"`,
			`3:26: encryption.compression = "zstd": must be one of fastest, default, better`},
		{minimal, `encryption.compression = "DEFAULT"`,
			`3:26: encryption.compression = "DEFAULT": must be one of fastest, default, better: did you mean ` +
				`"default"?`},
		{minimal, `encryption.compression = ""`,
			`3:26: encryption.compression = "": must be one of fastest, default, better`},
		{minimal, `log.level = "warning"`,
			`3:13: log.level = "warning": must be one of debug, info, warn, error: did you mean "warn"?`},
		{minimal, `log.level = "err"`,
			`3:13: log.level = "err": must be one of debug, info, warn, error: did you mean "error"?`},
		{minimal, `log.level = "trace"`, `3:13: log.level = "trace": must be one of debug, info, warn, error`},
		{minimal, `log.level = ""`, `3:13: log.level = "": must be one of debug, info, warn, error`},
		{minimal, `log.format = "txt"`,
			`3:14: log.format = "txt": must be one of auto, text, json: did you mean "text"?`},
		{minimal, `log.format = "logfmt"`, `3:14: log.format = "logfmt": must be one of auto, text, json`},
		{minimal, `log.format = ""`, `3:14: log.format = "": must be one of auto, text, json`},
		{laptop, `transport = "ssh"`, `10:13: offsite.transport = "ssh": must be one of builtin, openssh`},
		{laptop, `transport = "Builtin"`,
			`10:13: offsite.transport = "Builtin": must be one of builtin, openssh: did you mean "builtin"?`},
		{laptop, `type = "smb"`, `10:8: offsite.type = "smb": must be one of sftp, dir, s3`},
		{laptop, `type = "SFTP"`, `10:8: offsite.type = "SFTP": must be one of sftp, dir, s3: did you mean "sftp"?`},
		{laptop, `type = "s4"`, `10:8: offsite.type = "s4": must be one of sftp, dir, s3: did you mean "s3"?`},
		{laptop, `type = ""`, `10:8: offsite.type = "": must be one of sftp, dir, s3`},
		{asked, `method = "get"`,
			`5:10: restore.checks.method = "get": must be one of GET, HEAD, POST, PUT: did you mean "GET"?`},
		{asked, `method = "DELETE"`, `5:10: restore.checks.method = "DELETE": must be one of GET, HEAD, POST, PUT`},
	})
}
