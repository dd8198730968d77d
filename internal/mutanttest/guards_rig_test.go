//go:build rig

package mutanttest

// guard are the functions of a package that stand between the data and its loss.
type guard struct {
	pkg     string
	files   map[string][]string // the functions of each file
	without string              // tests that are not run: a regular expression
}

var guards = []guard{
	{pkg: "retention", files: map[string][]string{
		"plan.go": {"Plan", "newPlan", "plan.noteNewest", "plan.judge", "plan.slots", "plan.whyKeep", "plan.followed",
			"plan.anomaly", "plan.within", "invalidSince", "tooMany"},
	}},
	{pkg: "crypt", files: map[string][]string{
		"signer.go": {"Verify", "parseSigner", "parseSignature"},
	}},
	{pkg: "internal/fsx", files: map[string][]string{
		"write.go":  {"WriteFileVia"},
		"rename.go": {"rename", "RenameNoReplace", "renameClaimed"},
		"lock.go":   {"LockFile", "LockOpen", "Lock.Unlock"},
		"sync.go":   {"Sync", "SyncFile", "SyncDir", "SyncDirs"},
	}},
	{pkg: "offsite/dir", files: map[string][]string{
		"put.go":     {"Remote.put", "write"},
		"publish.go": {"Remote.rename", "lockedRename"},
	}},
	{pkg: "snapshot", files: map[string][]string{
		"check.go":    {"checkDB", "checkRegistry", "checkChroma"},
		"validate.go": {"ValidateDir"},
	}},
}
