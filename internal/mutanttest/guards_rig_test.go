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
	{pkg: "snapshot", files: map[string][]string{
		"validate.go": {"ValidateDir", "readDocuments", "carryOver", "hasCode"},
		"publish.go":  {"takeRun.publish", "takeRun.rename", "takeRun.complete"},
		"remove.go":   {"Store.Delete"},
		"lock.go":     {"Store.lockPublished", "Store.lockFile"},
		"newest.go":   {"Newest", "Snapshot.Counts", "Eligible"},
		"stamp.go":    {"ParseStamp"},
		"check.go":    {"checkDB", "checkRegistry", "checkChroma", "lstatInside"},
	}},
	{pkg: "offsite", files: map[string][]string{
		"push_publish.go": {"pusher.publish", "Vault.putFile", "Vault.sameBytes", "pusher.checkPacks",
			"pusher.checkObjects"},
		"vault_verify.go":    {"verifier.read", "verifier.digest", "verifier.result"},
		"vault_manifest.go":  {"Manifest.check", "checkPath", "leaves", "FileEntry.check", "checkRuns"},
		"vault_sums.go":      {"parseSums", "namedIn"},
		"vault_documents.go": {"Vault.policies", "parsePolicy", "Vault.documents", "Vault.readDocument"},
		"vault_prune.go": {"Vault.Prune", "PruneOptions.lengthen", "PruneOptions.inTime", "PruneOptions.superseded",
			"PruneOptions.holdSuperseded", "Vault.removeUnproven", "Vault.removePush", "Vault.namedPacks",
			"Vault.trash", "Vault.emptyTrash", "Vault.removeUnsigned", "Vault.removeOld"},
		"pull_digest.go": {"fileDigest.matches", "packReader.hashReady"},
	}},
	{pkg: "offsite/dir", files: map[string][]string{
		"put.go":     {"Remote.put", "write"},
		"publish.go": {"Remote.rename", "renameNoReplace", "lockedRename"},
	}},
	{pkg: "restore", files: map[string][]string{
		"swap.go": {"session.forwardSet", "session.moveOldAside", "session.moveNewIn", "session.overwrite",
			"overwriteInPlace", "session.setAsideUnknown", "session.setAsideNew", "session.setAside"},
		"back.go": {"session.back", "session.backSet", "swapSet.moved", "session.moveNewOut", "session.overwriteBack",
			"sameBytes", "session.moveOldBack", "swapSet.sidecarUsable"},
		"journal.go": {"Place.Pending", "readJournal", "Journal.believed", "Journal.plausible"},
	}},
	{pkg: "internal/app", files: map[string][]string{
		"prune.go": {"App.Prune", "App.planPrune", "App.carryOut", "App.deletePublished"},
		"findings.go": {"App.findings", "App.changeFindings", "App.noteValidation", "findings.add", "overlayFinding",
			"isDamaged"},
	}},
}
