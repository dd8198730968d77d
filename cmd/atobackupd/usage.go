package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
)

// A mistyped command line is answered with the nearest thing that exists and
// with the help of the command that was meant.

// group makes cmd one that only holds others: alone it shows its help, and a
// word that is none of its commands is an error.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = unknownCommand
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
	return cmd
}

// unknownCommand is the Args of a group.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(append(names, sub.Name()), sub.Aliases...)
		}
	}
	return usageError(cmd, fmt.Errorf("unknown command %q",
		strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "atobackupd ")), config.Nearest(args[0], names))
}

// explainCommand shows the help of the command that args name.
func explainCommand(root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err == nil && len(rest) > 0 && cmd.HasSubCommands() {
		err = unknownCommand(cmd, rest)
	}
	if err != nil {
		return err
	}
	return cmd.Help()
}

// flagError is what a flag that cannot be parsed is told.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usageError(cmd, err, "")
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	near := config.Nearest(unknown.GetSpecifiedName(), names)
	if near != "" {
		near = "--" + near
	}
	return usageError(cmd, err, near)
}

// argumentsError says which arguments a command wants, where they are what is wrong
// with its line; else it returns err.
func argumentsError(cmd *cobra.Command, err error) error {
	words := cmd.Flags().Args()
	if cmd.HasSubCommands() || cmd.ValidateArgs(words) == nil {
		return err
	}
	name := strings.TrimPrefix(cmd.CommandPath(), "atobackupd ")
	_, wanted, _ := strings.Cut(cmd.Use, " ")
	given := fmt.Sprintf("%q", words)
	given = strings.Trim(given, "[]")
	switch {
	case wanted == "":
		return fmt.Errorf("%s takes no arguments, and was given %s", name, given)
	case len(words) == 0:
		given = "nothing"
	}
	return fmt.Errorf("%s wants %s, and was given %s", name, wanted, given)
}

// usageError sends the reader to the help of cmd, and to near, the word that was
// probably meant, if there is one.
func usageError(cmd *cobra.Command, err error, near string) error {
	hint := "see `" + cmd.CommandPath() + " --help`"
	if near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return &failure.Error{Kind: failure.Usage, Err: err, Hint: hint}
}

// refuseEmpty refuses a flag that was given an empty value, such as `--to ""`:
// most often it is a variable of a script that was not set.
func refuseEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.Type() == "string" && f.Value.String() == ""
		if list, ok := f.Value.(pflag.SliceValue); ok {
			empty = slices.Contains(list.GetSlice(), "")
		}
		if empty && err == nil {
			err = usageError(cmd, fmt.Errorf("--%s has an empty value", f.Name), "")
		}
	})
	return err
}

// wantsJSON looks for --json among the arguments themselves: they may be wrong
// in a way that keeps them from being parsed, and a program still waits for its
// document.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true", "--json=1", "--json=t":
			return true
		}
	}
	return false
}
