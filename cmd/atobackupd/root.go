package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
)

// cli is what the commands share: where output goes and the global flags.
type cli struct {
	stdout, stderr io.Writer // escaped: what others wrote does nothing to a terminal
	// As they were given: for data, for a bar and for the cursor.
	rawStdout, rawStderr io.Writer

	configPath  string
	json        bool
	lockTimeout time.Duration
	// The operator's word that nobody else writes where the backups lie.
	trustBackupDir bool
	// The command ends an interrupted restore: it is not told that there is one.
	endsRestore bool

	started bool   // a command began its work: errors before that are usage
	emitted bool   // the document was written
	status  int    // exit status of a command that has its own
	noticed string // the last notice: an error that says the same is not repeated

	done     <-chan struct{} // closed by an interrupt
	hangup   chan os.Signal  // SIGHUP, from the first moment
	nohup    bool            // SIGHUP was ignored when the program began
	onHangup func()          // makes SIGHUP an interrupt
	progress terminalProgress
}

// The groups of `atobackupd --help`.
const (
	groupDaily    = "daily"
	groupOffsite  = "offsite"
	groupLook     = "look"
	groupInstall  = "install"
	groupRecovery = "recovery"
)

// commands are all that the program knows.
var commands = []func(*cli) *cobra.Command{
	newBackup, newList, newLs, newDiff, newDump, newValidate, newPrune, newPin, newUnpin, newScrub, newAccept,
	newRestore, newBootstrap, newDrill, newNotify, newExport, newSync, newVault, newTarget, newStatus, newHistory,
	newSchedule,
	newConfig, newRun, newServiceEnded, newInit, newCompletion, newVersion,
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "atobackupd",
		Short: "Back up AtoCore, prove that the backups are good, and put them back",
		Long: `atobackupd takes snapshots of AtoCore's database, registry and Chroma store,
validates each one, keeps 7 daily, 4 weekly and 6 monthly ones, ships them
encrypted to another machine, and restores them.

Exit status: 0 done, 1 failed, 2 usage or configuration, 3 invalid snapshot,
4 refused for safety, 5 locked, 75 target unreachable, 130 interrupted.`,
		Example: `  sudo atobackupd init
  sudo atobackupd status
  sudo atobackupd restore latest --dry-run`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseEmpty(cmd); err != nil {
				return err
			}
			if cmd.Name() != runCommand {
				go c.onHangup()
			}
			c.started = true
			c.progress.start(c.rawStderr)
			return nil
		},
	}
	asked := c.json // before the flags are parsed, which may fail
	flags := root.PersistentFlags()
	flags.StringVar(&c.configPath, "config", "",
		"configuration `file` (default $ATOBACKUPD_CONFIG, then "+config.DefaultPath+")")
	_ = root.MarkPersistentFlagFilename("config", "toml")
	flags.BoolVar(&c.json, "json", false, "write one JSON document to stdout")
	flags.DurationVar(&c.lockTimeout, "lock-timeout", 10*time.Minute,
		"how long to wait for another atobackupd that is at work")
	flags.BoolVar(&c.trustBackupDir, "trust-backup-dir", false,
		"as root, go on although somebody else can write the backup directory")
	c.json = asked
	root.AddGroup(
		&cobra.Group{ID: groupDaily, Title: "Snapshots:"},
		&cobra.Group{ID: groupRecovery, Title: "Getting it back:"},
		&cobra.Group{ID: groupOffsite, Title: "The other machine:"},
		&cobra.Group{ID: groupLook, Title: "How things stand:"},
		&cobra.Group{ID: groupInstall, Title: "Installation:"},
	)
	for _, add := range commands {
		root.AddCommand(add(c))
	}
	group(root)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages",
		fmt.Sprintf(".FlagUsagesWrapped %d", c.width())))
	explain := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) { c.help(cmd, args, explain) })
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.GroupID, help.Short = groupInstall, "Explain a command"
		help.Long = "Explain a command, as its --help does."
		help.Example = "  atobackupd help vault restore"
		help.Run = nil
		help.RunE = func(cmd *cobra.Command, args []string) error { return explainCommand(root, args) }
	}
	return root
}

// help shows what a command does; with --json the text is in a document.
func (c *cli) help(cmd *cobra.Command, args []string, explain func(*cobra.Command, []string)) {
	if !c.json {
		explain(cmd, args)
		return
	}
	var text bytes.Buffer
	cmd.SetOut(&text)
	explain(cmd, args)
	_ = c.emit(map[string]string{"help": text.String()}, nil)
}

// load reads the configuration.
func (c *cli) load() (*config.Config, error) {
	path, err := filepath.Abs(config.Locate(c.configPath)) // what guards it judges the directories above it
	if err != nil {
		return nil, err
	}
	return config.Load(path)
}

// open opens the installation for a command. Looking only changes nothing.
func (c *cli) open(ctx context.Context, readOnly bool) (*app.App, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	o := c.options(cfg)
	o.ReadOnly = readOnly
	o.TrustBackupDir, o.EndsRestore = c.trustBackupDir, c.endsRestore
	return app.Open(ctx, cfg, o)
}

// withApp opens the installation, hands it to use and closes it.
func (c *cli) withApp(ctx context.Context, readOnly bool, use func(*app.App) error) error {
	a, err := c.open(ctx, readOnly)
	if err != nil {
		return err
	}
	defer a.Close()
	return use(a)
}

// options are those of a command: a person watches, so only warnings are logged.
func (c *cli) options(cfg *config.Config) app.Options {
	logging := cfg.Log
	if logging.Level == "info" {
		logging.Level = "warn"
	}
	return app.Options{
		Version:     version(),
		LockTimeout: c.lockTimeout,
		Log:         c.logger(logging),
		Notice: func(line string) {
			c.noticed = line
			c.progress.line(c.stderr, "atobackupd: "+line)
		},
		Progress:   c.progress.update,
		Passphrase: c.passphrase,
	}
}

func (c *cli) logger(l config.Log) *slog.Logger {
	return app.NewLogger(c.stderr, l, os.Getenv("JOURNAL_STREAM") != "")
}

// emit writes a command's result: the document with --json, else what people
// writes. There is one document a run, and nothing else on stdout.
func (c *cli) emit(doc any, people func(w io.Writer)) error {
	c.progress.finish()
	c.emitted = true
	if !c.json {
		if people != nil {
			people(c.people())
		}
		return nil
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", data)
	return err
}

// emitWith writes the document and returns the error that the work ended
// with: a document tells also how a failed run went.
func (c *cli) emitWith(err error, doc any, people func(w io.Writer)) error {
	if err != nil && !c.json {
		return err
	}
	if emitErr := c.emit(doc, people); emitErr != nil {
		return emitErr
	}
	return err
}
