package main

import "slices"

// errnos are what a broken disk, a full one, one without rights and one with a
// quota answer.
var errnos = []string{"EIO", "ENOSPC", "EACCES", "EDQUOT"}

// scenarios is the whole proof, in the order of the table. The names are stable:
// by them the rows of the page are found again.
var scenarios = []scenario{
	{
		Name: "Restore, killed",
		How: "SIGKILL before every file-changing call in four layouts, then resumed and aborted; " +
			"the repair killed too; the anchoring too",
		Not:   "calls that SQLite makes by itself count as one; a power cut is the next row",
		Tests: []tests{{Package: "./restore", Run: "^(TestKillAnywhere|TestKillTheRepair|TestKillWhileAnchoring)$"}},
	},
	{
		Name: "Restore, power cut",
		How:  "the disk caught at every fourth file-changing system call and mounted anew (ext4), then resumed and aborted",
		Not:  "disks that lie about a flush; xfs and btrfs",
		Tests: []tests{{Package: "./restore", Run: "^TestRigPowerCut$",
			Env: []string{"ATOBACKUPD_SWEEP_STEP=4"}}},
	},
	{
		Name: "Take, killed and cancelled",
		How:  "SIGKILL before every file-changing call of a full take, a delete and a pin; cancelled at every third",
		Not:  "calls that SQLite makes by itself count as one",
		Tests: []tests{{Package: "./snapshot", Run: "^(TestTakeKilled|TestTakeCancelled|TestDeleteKilled|TestPinKilled)$"},
			{Package: "./snapshot/sqlite", Run: "^TestKilledCopier$"}},
	},
	{
		Name:  "Prune, killed",
		How:   "SIGKILL before every file-changing call; the next one finishes it",
		Not:   "a prune of a vault",
		Tests: []tests{{Package: "./internal/app", Run: "^TestPruneKilled$"}},
	},
	{
		Name:  "History, killed",
		How:   "SIGKILL at random moments of a process that writes it; what it had acknowledged is there",
		Not:   "a power cut",
		Tests: []tests{{Package: "./internal/history", Run: "^TestKilledWhileWriting$", Env: rounds("200")}},
	},
	{
		Name: "The whole program, killed",
		How: "SIGKILL before and after system calls all over take, prune, push, repair, restore, drill, bootstrap " +
			"and more, SQLite's own calls too; a fresh process ends it, finds whole snapshots and takes the next",
		Not:   "a power cut: what was written and not flushed is still there",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSweepKilled$", Env: rounds("30")}},
	},
	{
		Name: "The whole program, power cut",
		How: "the disk caught at system calls all over the same jobs and once each has ended, and mounted anew (ext4, " +
			"xfs, btrfs): as above, and what the job had said is there, byte for byte",
		Not: "disks that lie about a flush, or that reorder what was sent to them and not flushed",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSweepPowerCut$", Env: rounds("8"),
			Args: []string{"-test.parallel=3"}}},
	},
	{
		Name: "The whole program, failing",
		How: "EIO, ENOSPC, EACCES and EDQUOT of system calls all over the same jobs, SQLite's own calls too; " +
			"then done again",
		Not:   "calls that never return",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSweepFailed$", Env: rounds("20")}},
	},
	{
		Name: "The whole program, short writes",
		How: "the same jobs, each with a limit beyond which the kernel writes no file, from 64 bytes to 512 KiB: the " +
			"write that meets it is a short one, later ones fail; then done again",
		Not:   "a short write after which the next one succeeds",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSweepShortWrites$", Env: rounds("10")}},
	},
	{
		Name: "The whole program, slow",
		How: "every write, flush, rename and removal of the same jobs is 25 ms late; meanwhile the status is read, and " +
			"whoever needs the lock waits for it: nothing false is told",
		Not:   "calls that never return; the daemon's watchdog: the small machine's row",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSweepSlow$"}},
	},
	{
		Name: "S3, cut at every request",
		How:  "put, move and remove on MinIO and versitygw, cut off before and after each request, then done again",
		Not:  "Amazon's own servers",
		Tests: []tests{{Package: "./offsite/s3",
			Run: "^TestRigKilledAtEveryRequest$"}},
	},
	{
		Name: "Peers",
		How: "pushes to a real sshd and to a real S3 server, each with a fault at a random moment: session or server " +
			"killed, stalled, cut, disk filled, keyed anew, times moved, this program killed; then verified, every " +
			"snapshot restored and compared, pruned without garbage",
		Not: "a server's clock that really is wrong: the times of what it stored are moved",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestPeerSSH$", Env: rounds("200")},
			{Package: "./cmd/atobackupd", Run: "^TestPeerS3$", Env: rounds("100")}},
	},
	{
		Name: "The k-th failure",
		How: "EIO, ENOSPC, EACCES and EDQUOT at every file-changing call of take, delete, adopt, repair, copy, push, " +
			"restore and export, until none is left to fail",
		Not: "short writes; the calls that SQLite makes by itself",
		Tests: eachErrno("Failing|Fails|WriteFileVia|Failures|^TestLocalFaults$|^TestEachFailure|ThawsWhatever",
			"./internal/fsx/...", "./snapshot/...", "./offsite", "./restore", "./internal/app"),
	},
	{
		Name: "Full disks",
		How: "takes and restores on a file system that is full after one page more each time, " +
			"until there is room",
		Not: "a vault's disk that fills: the peers' row",
		Tests: []tests{{Package: "./snapshot", Run: "^TestTakeOnAFullDisk$"},
			{Package: "./restore", Run: "^TestNoSpaceAnywhere$"}},
	},
	{
		Name: "A small machine",
		How: "the daemon and every command with 192 MiB of memory, page cache included, and a disk of 20 MB a second, " +
			"with a database larger than that memory: slower, never stuck, the watchdog fed, nothing false in status",
		Not:   "a large Chroma directory; a slow processor",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestSmallMachine$"}},
	},
	{
		Name: "Upgrade",
		How: "version 0.1.0 is built and works; this version goes on with its state, history, vault (an append-only one " +
			"too), findings and killed restores, and 0.1.0 comes back",
		Not:   "versions between the two; a downgrade in the middle of a restore",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestUpgrade$", Env: rounds("60")}},
	},
	{
		Name: "Retention against an oracle",
		How:  "random histories judged by a second, slower implementation; ten properties; a year day by day",
		Not:  "that the rules are the ones that you want: read the golden files of the year",
		Tests: []tests{{Package: "./retention", Run: ".",
			Args: []string{"-rapid.checks=10000"}}},
	},
	{
		Name:  "A year of the scheduler",
		How:   "every minute of 2026 in four zones, calm and with clock steps, sleeps, crashes and failures",
		Not:   "real time",
		Tests: []tests{{Package: "./scheduler", Run: "."}},
	},
	{
		Name: "Chroma, copied under its writer",
		How: "live copies of a real Chroma (npm 0.1.2, 1.0.1, 1.1.4, 1.3.4) aimed at the moment of a persist, each judged " +
			"against what was written by the version that wrote it",
		Not: "versions of Chroma between these",
		Tests: []tests{{Package: "./snapshot/chroma", Run: "^TestRigLive$", Env: rounds("15")},
			{Package: "./snapshot/chroma", Run: "^TestVersions$", Env: rounds("5")}},
	},
	{
		Name: "Other programs as judges",
		How: "what was taken, sent and restored is opened by sqlite3, Chroma, age, zstd, sha256sum, ssh-keygen and Python; " +
			"metrics and rules by promtool, units by systemd-analyze and systemd, pages by Chromium",
		Not: "other versions of these than Debian's",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestEndToEnd$"},
			{Package: "./offsite", Run: "^(TestRoundTrip|TestRecoverRestoresAll)$"},
			{Package: "./crypt", Run: "^TestOpenSSHReadsOurKeysAndSignatures$"},
			{Package: "./snapshot/chroma", Run: "^TestRig(Freeze|Cold|API)$"},
			{Package: "./internal/web", Run: "^TestRig"},
			{Package: "./internal/daemon", Run: "^TestRigEveryRuleFires$"},
			{Package: "./contrib/systemd", Run: "^(TestExposure|TestRigDeb|TestRigLife)$"}},
	},
	{
		Name: "Sixty days of damage",
		How: "a random object of the vault harmed each night: named, mended, restored; and sixty days of pushes, prunes " +
			"and verifies in a bucket whose clock goes with them",
		Not: "damage here and there in the same night",
		Tests: []tests{{Package: "./internal/app", Run: "^TestRigSixtyDaysOfDamage$"},
			{Package: "./offsite", Run: "^TestRigSixtyDaysInABucket$"}},
	},
	{
		Name: "A year in one run",
		How: "a database that is written to, Chroma, a vault on a real sshd; 365 days with kills in takes, pushes and " +
			"prunes, full disks, lost lines, a machine asleep, clock steps, and a bit flipped each week here or there: " +
			"all told and healed, or named as lost; nothing else told; what is kept judged by an oracle each day and " +
			"restored at the end; memory, files and goroutines flat",
		Not:   "the daemon's own loop; the sleep of a timer: only the clock is set, a day at a time",
		Tests: []tests{{Package: "./internal/app", Run: "^TestYear$", Env: rounds("365")}},
	},
	{
		Name: "Hostility",
		How:  "each position of docs/threat-model.md tries what it says that it cannot do",
		Not:  "attacks that nobody thought of",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestRigTrust$"},
			{Package: "./offsite/s3", Run: "^TestRigThief$"}, {Package: "./offsite", Run: "^TestRigThiefOverSSH$"}},
	},
	{
		Name: "AtoCore in Docker",
		How: "init finds the deployment, and what it has written works at once: backup, drill, a restore and a live " +
			"drill that stop and start the real containers",
		Not:   "AtoCore's own image: a service of the same layout stands for it",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestDeployment$"}},
	},
	{
		Name: "Managed restores in Docker",
		How: "each with a fault at a random moment: application stuck, started or stopped by hand, data refused, " +
			"compose file gone, dockerd killed or stalled, this program killed or interrupted, a second restore; then " +
			"what the program tells the operator: whole data, old or new as it said, no confirmed write lost",
		Not:   "a power cut; AtoCore's own image",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestDeploymentFaults$", Env: rounds("20")}},
	},
	{
		Name: "Secrets",
		How: "every command typed with debug messages, every page read, every file looked through for passwords, " +
			"tokens and keys, while each service refuses; the mode of each file",
		Not:   "secrets inside what is backed up, which `restore` and `dump` are there to show",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestRigSecrets$"}},
	},
	{
		Name: "Races",
		How: "jobs, and the calls that they stand on, beside a process of the application's that exchanges " +
			"directories for links to a victim",
		Not: "exchanges that this machine's two cores never interleave",
		Tests: []tests{{Package: "./internal/fsx/tree", Run: "Race", Env: rounds("1000")},
			{Package: "./offsite", Run: "^TestExchangedDirectories$", Env: rounds("200")},
			{Package: "./snapshot", Run: "^TestTakeRaces$", Env: rounds("20")},
			{Package: "./cmd/atobackupd", Run: "^TestRigTrustRaces$", Env: rounds("40")}},
	},
	{
		Name:  "Fuzzed input",
		How:   "every parser of what others write, from its checked-in corpus",
		Not:   "inputs that 100,000 executions do not reach",
		Tests: fuzzed,
	},
	{
		Name: "Mutants",
		How: "each condition, call and statement of the functions below broken, one at a time: a test of the package " +
			"must fail",
		Not: "what a test of another package sees alone; the mutants that internal/mutanttest/testdata/accepted.txt " +
			"explains",
		Tests: []tests{{Package: "./internal/mutanttest", Run: "^TestMutants$"}},
	},
	{
		Name: "Everything at once",
		How: "a daemon, a second one and fourteen commands at the same time, all built with the race detector; a holder " +
			"of the lock that hangs",
		Not:   "two machines on one backup directory",
		Tests: []tests{{Package: "./cmd/atobackupd", Run: "^TestConcurrent$", Env: rounds("10")}},
	},
	{
		Name: "Race detector",
		How:  "the packages in which several goroutines meet, under go test -race",
		Not:  "races on paths that no test takes",
		Tests: []tests{{Package: "./internal/daemon", Run: "^Test[^RT]", Race: true},
			{Package: "./internal/app", Run: "^TestS", Race: true},
			{Package: "./offsite", Run: "^TestP", Race: true},
			{Package: "./scheduler", Run: ".", Race: true},
			{Package: "./internal/notify", Run: ".", Race: true},
			{Package: "./internal/web", Run: "^Test[^R]", Race: true}},
	},
}

func rounds(n string) []string { return []string{"ATOBACKUPD_ROUNDS=" + n} }

// eachErrno runs the tests whose name matches with every error in turn.
func eachErrno(run string, packages ...string) (all []tests) {
	for _, errno := range errnos {
		for _, name := range packages {
			all = append(all, tests{Package: name, Run: run, Env: []string{"FSXTEST_ERRNO=" + errno}})
		}
	}
	return all
}

// fuzzed are the fuzz targets of the project. A pack stream unpacks a directory
// each time, and a graph is a megabyte: they get fewer executions.
var fuzzed = slices.Concat(
	fuzz("./snapshot/chroma", 100_000, "FuzzUnpickle", "FuzzMarker"),
	fuzz("./snapshot/chroma", 20_000, "FuzzGraph"),
	fuzz("./snapshot", 100_000, "FuzzManifest", "FuzzMetadata", "FuzzParseStamp"),
	fuzz("./offsite", 100_000, "FuzzPolicyDocument", "FuzzTrashMarkers", "FuzzManifest", "FuzzRuns", "FuzzSums",
		"FuzzVaultInfo"),
	fuzz("./offsite", 5_000, "FuzzPackStream"),
	fuzz("./offsite/s3", 100_000, "FuzzListing", "FuzzParseURL"),
	fuzz("./scheduler", 100_000, "FuzzParse"),
	fuzz("./internal/setup", 100_000, "FuzzHostDocument"),
	fuzz("./internal/web", 100_000, "FuzzRequest"),
	fuzz("./restore", 100_000, "FuzzJournal"),
	fuzz("./crypt", 100_000, "FuzzVerify", "FuzzParseRecipients"),
	fuzz("./internal/config", 100_000, "FuzzParse"),
	fuzz("./internal/escape", 100_000, "FuzzString"),
)

func fuzz(name string, executions int, targets ...string) (all []tests) {
	for _, target := range targets {
		all = append(all, tests{Package: name, Run: "^" + target + "$", Fuzz: executions})
	}
	return all
}
