package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckAccessCommand is the hidden command that prints what CheckAccess finds.
const CheckAccessCommand = "check-access"

// service checks what holds for the service and not for whoever looks: when root
// does, the unit's user has another view of the disk.
func (c *checker) service(ctx context.Context) {
	u, err := user.Lookup(serviceUser)
	if err != nil || os.Geteuid() != 0 {
		return
	}
	if unitProperty(ctx, "LoadState") == "loaded" {
		c.unit(ctx)
	}
	found, err := asUser(ctx, u, strings.Fields(unitProperty(ctx, "SupplementaryGroups")), c.cfg.Path)
	if err != nil {
		c.warn("service", "what %s may read and write could not be checked: %v", serviceUser, err)
		return
	}
	c.report.User += " and " + serviceUser
	for _, text := range found.Errors {
		c.errs = append(c.errs, asService(text))
	}
	for _, w := range found.Warnings {
		if slices.Contains(c.report.Warnings, w) {
			continue // it holds for everybody
		}
		c.warnings([]string{asService(w).Error()})
	}
}

// asService is an error of the service's user.
type asService string

func (e asService) Error() string { return "for the service: " + string(e) }

// unit checks that the sandbox lets the service write where it must.
func (c *checker) unit(ctx context.Context) {
	paths := strings.Fields(unitProperty(ctx, "ReadWritePaths"))
	if unitProperty(ctx, "ProtectSystem") != "strict" {
		return
	}
	may := func(dir string) bool {
		for _, path := range paths {
			path = strings.TrimRight(strings.TrimLeft(path, "-+"), "/")
			if dir == path || strings.HasPrefix(dir, path+"/") {
				return true
			}
		}
		return false
	}
	need := map[string]string{"backup.dir": c.cfg.Backup.Dir}
	for _, t := range c.cfg.Offsite {
		if t.Type == "dir" {
			need["offsite."+t.Name+".path"] = t.Path
		}
	}
	for key, dir := range need {
		if !may(dir) {
			c.warn(key, "the unit lets the service write to %s only: systemctl edit atobackupd, and write [Service] "+
				"and ReadWritePaths=%s", strings.Join(paths, ", "), dir)
		}
	}
}

// unitProperty asks systemd about the unit; "" where there is none.
func unitProperty(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "-P", name, "atobackupd.service").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// asUser has this program look again, as the unit's user with its groups and its
// one capability.
func asUser(ctx context.Context, u *user.User, groups []string, configPath string) (found ConfigReport, err error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return found, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return found, err
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, name := range groups {
		if g, err := user.LookupGroup(name); err == nil {
			name = g.Gid
		}
		if id, err := strconv.ParseUint(name, 10, 32); err == nil {
			credential.Groups = append(credential.Groups, uint32(id))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return found, err
	}
	cmd := exec.CommandContext(ctx, self, "config", CheckAccessCommand, "--json", "--config", configPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, AmbientCaps: []uintptr{unix.CAP_DAC_READ_SEARCH}}
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout = &out
	runErr := cmd.Run()
	var answer struct {
		ConfigReport
		Error string `json:"error"` // instead of a report: it could not begin
	}
	err = json.Unmarshal(out.Bytes(), &answer)
	switch {
	case answer.Error != "":
		return found, errors.New(answer.Error)
	case (err != nil || answer.Path == "") && runErr != nil:
		return found, runErr
	case err != nil:
		return found, err
	}
	return answer.ConfigReport, nil
}
