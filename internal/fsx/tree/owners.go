package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// Owners are the users whose files are believed.
type Owners []int

// Trusted returns root, the caller and the service's user, who is the owner of
// the state directory. A state directory that is not there yet adds nobody.
func Trusted(stateDir string) Owners {
	owners := Owners{0, os.Geteuid()}
	var st unix.Stat_t
	if stateDir != "" && unix.Lstat(stateDir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		owners = append(owners, int(st.Uid))
	}
	return owners
}

// Has reports whether the user is one of them.
func (o Owners) Has(uid int) bool { return slices.Contains(o, uid) }

// Offence is one directory, link or file because of which a path is not private.
type Offence struct {
	Path string
	Why  string // "belongs to uid 1000 (atocore)"
	Mend string // the command that mends it
}

// Private fails with kind Refused unless a path is private: it, every directory
// above it and every link on the way belong to one of the owners, and nobody else
// can write there. A group without members other than the owners is nobody else.
// Above the path a directory with the sticky bit, such as /tmp, will do: there
// only an entry's owner can replace it. The error names what is wrong and the
// commands that mend it. For a path that does not exist, what exists above it
// counts.
func Private(path string, owners Owners) error {
	offences, err := Offences(path, owners)
	if err != nil {
		return err
	}
	return Refusal(path, offences)
}

// Refusal returns the error of kind Refused that names the offences, nil where
// there are none.
func Refusal(path string, offences []Offence) error {
	if len(offences) == 0 {
		return nil
	}
	var why, mend []string
	for _, o := range offences {
		why = append(why, o.Path+" "+o.Why)
		mend = append(mend, o.Mend)
	}
	return &failure.Error{Op: "refused", Subject: path, Kind: failure.Refused,
		Err:  fmt.Errorf("somebody else can change what lies there: %s", strings.Join(why, "; ")),
		Hint: "mend it: " + strings.Join(mend, " && ")}
}

// Offences returns everything because of which a path is not private, from the
// top down; none means that it is.
func Offences(path string, owners Owners) ([]Offence, error) {
	var found []Offence
	r := resolver{owners: owners, follow: true, offence: func(o Offence) { found = append(found, o) }}
	dir, base, err := r.parent(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	info, err := dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	fd, err := dir.openat("open", base, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	r.judge(fd, dir.Name(base), info, false)
	return found, nil
}

// judge returns what keeps an entry from being private by itself. above is set
// for a directory above the one that matters.
func (o Owners) judge(fd int, path string, info Info, above bool) *Offence {
	var why, mend []string
	if !o.Has(info.UID) {
		why = append(why, "belongs to "+userName(info.UID))
		mend = append(mend, o.chown(path, info, above))
	}
	if w, m := o.writers(fd, info, above); w != "" {
		why = append(why, w)
		mend = append(mend, m+" "+quote(path))
	}
	if why == nil {
		return nil
	}
	return &Offence{Path: path, Why: strings.Join(why, ", "), Mend: strings.Join(mend, " && ")}
}

// chown returns the command that gives an entry to whom it should belong: root,
// and the directory that matters to the service's user, who writes there.
func (o Owners) chown(path string, info Info, above bool) string {
	to := "root"
	if !above && len(o) > 0 && o[len(o)-1] != 0 {
		to = strconv.Itoa(o[len(o)-1])
		if u, err := user.LookupId(to); err == nil {
			to = u.Username
		}
	}
	if info.IsLink() {
		return "chown -h " + to + " " + quote(path)
	}
	return "chown " + to + " " + quote(path)
}

// writers returns why others can write an entry, and the command that mends it.
func (o Owners) writers(fd int, info Info, above bool) (why, mend string) {
	if info.IsLink() || above && info.Mode&unix.S_ISVTX != 0 {
		return "", ""
	}
	switch {
	case info.Mode&0o002 != 0:
		return "can be written by everybody", "chmod go-w"
	case info.Mode&0o020 == 0:
		return "", "" // with an ACL these bits bound what any group or named user may
	}
	acl, err := xattrs("/proc/self/fd/" + itoa(fd))
	if err != nil {
		return "has an access control list that cannot be read: " + err.Error(), "setfacl -b"
	}
	for _, w := range aclWriters(acl["system.posix_acl_access"]) {
		if w.group && !o.hasGroup(w.id) || !w.group && !o.Has(w.id) {
			return fmt.Sprintf("can be written by %s, whom its access control list names", w), "setfacl -b"
		}
	}
	if !o.hasGroup(info.GID) {
		return "can be written by " + groupName(info.GID), "chmod g-w"
	}
	return "", ""
}

// writer is a user or group that an access control list lets write.
type writer struct {
	id    int
	group bool
}

func (w writer) String() string {
	if w.group {
		return groupName(w.id)
	}
	return userName(w.id)
}

// aclWriters returns the named users and groups that a POSIX access control list
// gives write permission, as the kernel stores it: a version, then entries of a
// tag, permissions and an id. The mask is the group's bits of the mode.
func aclWriters(acl []byte) (found []writer) {
	const (
		namedUser, namedGroup = 0x02, 0x08
		size, write           = 8, 2
	)
	for at := 4; at+size <= len(acl); at += size {
		tag, perm := binary.LittleEndian.Uint16(acl[at:]), binary.LittleEndian.Uint16(acl[at+2:])
		if perm&write != 0 && (tag == namedUser || tag == namedGroup) {
			found = append(found, writer{int(binary.LittleEndian.Uint32(acl[at+4:])), tag == namedGroup})
		}
	}
	return found
}

// hasGroup reports whether a group has no members but the owners. One that this
// machine does not know may have members elsewhere: in a container, say.
func (o Owners) hasGroup(gid int) bool {
	members, known := groupMembers(gid)
	return known && !slices.ContainsFunc(members, func(uid int) bool { return !o.Has(uid) })
}

// groupMembers returns the users that /etc/passwd and /etc/group put into a
// group, and whether it is known at all.
func groupMembers(gid int) (members []int, known bool) {
	return membersIn(readLines("/etc/passwd"), readLines("/etc/group"), gid)
}

func readLines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Split(string(data), "\n")
}

func membersIn(passwd, groups []string, gid int) (members []int, known bool) {
	uids := map[string]int{}
	for _, line := range passwd { // name:x:uid:gid:…
		f := strings.Split(line, ":")
		if len(f) < 4 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		uids[f[0]] = uid
		if f[3] == strconv.Itoa(gid) {
			members, known = append(members, uid), true
		}
	}
	for _, line := range groups { // name:x:gid:member,member
		f := strings.Split(line, ":")
		if len(f) < 4 || f[2] != strconv.Itoa(gid) {
			continue
		}
		known = true
		for _, name := range strings.Split(f[3], ",") {
			if name == "" {
				continue
			}
			uid, ok := uids[name]
			if !ok {
				uid = -1 // a user of another directory service
			}
			members = append(members, uid)
		}
	}
	return members, known
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("uid %d (%s)", uid, u.Username)
	}
	return fmt.Sprintf("uid %d", uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return fmt.Sprintf("group %d (%s)", gid, g.Name)
	}
	return fmt.Sprintf("group %d", gid)
}
