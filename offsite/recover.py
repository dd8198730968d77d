#!/usr/bin/env python3
"""Get a snapshot back out of an atobackup vault, without atobackupd.

    python3 -I recover.py --list
    python3 -I recover.py STAMP --identity key.txt --to DIR [--signer "ssh-ed25519 AAAA..."]

It needs Python 3.9 or newer and the programs age and zstd, and ssh-keygen to
check who wrote the snapshot. STAMP is one that --list shows, or a push of its
last column, or "latest". DIR must be absent or empty, and not in the vault; it
appears when everything in it has been checked.

How a vault is read (format 1), should this file ever have to be rewritten:

  snapshots/PUSH.SHA256SUMS      digests of the files that the snapshot needs;
  snapshots/PUSH.SHA256SUMS.sig  and who says so (ssh-keygen -Y verify)
  snapshots/PUSH.manifest.age    age(zstd(JSON)): the files and their runs
  packs/ID.age                   age(zstd(pages)), pages of 4096 bytes; packs
                                 on their way out are in trash/

A run [file_page, pages, pack_index, pack_page] says where pages of a file lie.
The content of a file is the pages of its "base" runs, XOR the pages of its
"patch" runs, cut to "size"; a page in neither is zeros.

Nothing that a vault says is believed before it is checked: it may have been on
somebody else's disk. This file too: the recovery sheet has its SHA-256.
"""

import sys

# The vault may be on somebody else's disk, and this file lies in it. Without -I
# Python would look for modules beside this file first: a planted argparse.py
# would get the key.
if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

import argparse
import array
import base64
import binascii
import collections
import datetime
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time

PAGE = 4096
CHUNK = 256  # pages that are in memory at once
NAMESPACE = "atobackup-vault"

# Limits on what a vault may claim. They are far above what a real one has.
MAX_TEXT = 1 << 20  # bytes of vault.json, PUSH.json and a signature
MAX_SUMS = 1 << 26  # bytes of SHA256SUMS
MAX_MANIFEST = 1 << 29  # bytes of the manifest's JSON
MAX_FILES = 1 << 22
MAX_SIZE = 1 << 46  # bytes of all files together
MAX_PACK_PAGES = 1 << 20  # pages of one pack, that is 4 GiB

STAMP = r"[0-9]{8}T[0-9]{6}Z"
PUSH = STAMP + r"-[0-9a-f]{6}"
PACK = re.compile(PUSH + r"-[0-9]{6,}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Failure(Exception):
    """Something that the person at the keyboard has to read."""


class Missing(Failure):
    """A file that the vault does not have."""


def show(text):
    """A text from the vault, safe to print on a terminal."""
    text = text if len(text) <= 200 else text[:200] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(text):
    print("recover.py: " + text, file=sys.stderr, flush=True)


def need_program(name, package):
    if shutil.which(name) is None:
        raise Failure("recover.py needs the program %s: install it, e.g. apt install %s" % (name, package))


def size_text(n):
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n < 1024:
            break
        n, unit = n / 1024, {"bytes": "KiB", "KiB": "MiB", "MiB": "GiB", "GiB": "TiB"}[unit]
    return "%d bytes" % n if unit == "bytes" else "%.1f %s" % (n, unit)


class Progress:
    """One line on a terminal, rewritten a few times a second; else nothing."""

    def __init__(self, label, total):
        self.label, self.total, self.done = label, total, 0
        self.start = self.shown = time.monotonic()
        self.active = sys.stderr.isatty()

    def add(self, n):
        self.done += n
        now = time.monotonic()
        if self.active and now - self.shown >= 0.2:
            self.shown = now
            rate = self.done / max(now - self.start, 0.001)
            sys.stderr.write("\r\x1b[K%s %s of %s, %s/s" % (
                self.label, size_text(self.done), size_text(self.total), size_text(rate)))
            sys.stderr.flush()

    def end(self):
        if self.active:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# The vault ------------------------------------------------------------------


def open_object(vault, name):
    """Open a regular file of the vault. A symbolic link is not followed, and a
    pipe or device in its place is refused rather than waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        f = os.fdopen(os.open(os.path.join(vault, name), flags), "rb")
    except FileNotFoundError:
        raise Missing("%s: is missing from the vault" % name) from None
    except OSError as e:
        raise Failure("%s: cannot be read: %s" % (name, e.strerror)) from None
    if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
        f.close()
        raise Failure("%s: is not a regular file" % name)
    return f


def read_object(vault, name, limit):
    with open_object(vault, name) as f:
        data = f.read(limit + 1)
    if len(data) > limit:
        raise Failure("%s: is larger than %s" % (name, size_text(limit)))
    return data


def open_listed(vault, name):
    """Open a file that SHA256SUMS names. A pack is in packs/, or in trash/ when
    prune has moved it."""
    try:
        return open_object(vault, name)
    except Missing:
        if not name.startswith("packs/"):
            raise
    try:
        return open_object(vault, "trash/" + name[len("packs/"):])
    except Missing:
        raise Missing("%s: is missing from the vault, and from its trash/" % name) from None


def parse_json(name, data):
    def integer(text):
        if len(text) > 20:
            raise ValueError("a number has too many digits")
        return int(text)

    def no_constant(text):
        raise ValueError(text + " is not JSON")

    try:
        value = json.loads(data.decode("utf-8"), parse_int=integer, parse_constant=no_constant)
    except (ValueError, RecursionError) as e:
        raise Failure("%s: is not valid JSON: %s" % (name, show(str(e)))) from None
    if not isinstance(value, dict):
        raise Failure("%s: is not a JSON object" % name)
    return value


def is_count(value, limit):
    return type(value) is int and 0 <= value <= limit


def read_vault(vault):
    """vault.json, or None where there is none."""
    try:
        data = read_object(vault, "vault.json", MAX_TEXT)
    except Missing:
        return None
    about = parse_json("vault.json", data)
    if about.get("format") != "atobackup-vault":
        raise Failure("vault.json: this is not an atobackup vault")
    if about.get("version") != 1:
        raise Failure("vault.json: this vault has another version than 1: use the recover.py that lies in it")
    return about


def list_pushes(vault):
    """Every snapshot: a push is one once its signature exists."""
    try:
        names = os.listdir(os.path.join(vault, "snapshots"))
    except OSError as e:
        raise Failure("%s: this is not a vault: %s (give it with --vault)" % (vault, e)) from None
    pushes = []
    for name in names:
        match = re.fullmatch("(" + PUSH + r")\.SHA256SUMS\.sig", name)
        if match:
            pushes.append(describe(vault, match.group(1)))
    return sorted(pushes, key=lambda p: (p["stamp"], p["seq"], p["push"]))


def describe(vault, push):
    """What PUSH.json says, in the clear and not proven yet."""
    result = {"push": push, "stamp": push[:16], "kind": "?", "full": False, "pinned": False, "seq": -1}
    try:
        about = parse_json(push, read_object(vault, "snapshots/%s.json" % push, MAX_TEXT))
    except Failure:
        return result  # a sound push of the same stamp goes before it
    if isinstance(about.get("kind"), str):
        result["kind"] = about["kind"]
    result["full"] = about.get("full") is True
    result["pinned"] = about.get("pinned") is True
    if is_count(about.get("seq"), 1 << 62):
        result["seq"] = about["seq"]
    return result


def choose(pushes, wanted):
    """The push to restore: of several of a stamp, the one with the highest
    seq; "latest" passes over what was taken just before a restore, and what a
    wrong clock dates in the future."""
    if wanted == "latest":
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        found = [p for p in pushes if p["kind"] != "pre-restore" and p["stamp"] <= now]
    else:
        found = [p for p in pushes if wanted in (p["stamp"], p["push"])]
    if not found:
        raise Failure("there is no snapshot %s in this vault: python3 -I recover.py --list shows what there is" % wanted)
    return found[-1]


# Who wrote it, and whether it is whole --------------------------------------


def parse_signer(text):
    """A public key, without its comment. Strict, because it becomes part of a
    line that ssh-keygen reads."""
    fields = text.split() if isinstance(text, str) else []
    if len(fields) < 2 or fields[0] != "ssh-ed25519" or not re.fullmatch(r"[A-Za-z0-9+/]{40,200}={0,2}", fields[1]):
        return None
    return "ssh-ed25519 " + fields[1]


def known_signers(about):
    """The signers of this vault that the reader's own list names: what
    atobackupd pinned when it first read the vault here."""
    if not about or not isinstance(about.get("vault_id"), str):
        return []
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    directory = "/var/lib/atobackupd" if os.geteuid() == 0 else os.path.join(state, "atobackupd")
    try:
        with open(os.path.join(directory, "signers"), encoding="ascii") as f:
            lines = f.read(MAX_TEXT).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    words = [line.split(None, 1) for line in lines]
    keys = [parse_signer(w[1]) for w in words if len(w) == 2 and w[0] == about["vault_id"]]
    return [key for key in keys if key]


def check_signature(vault, push, sums, signers):
    """Stop unless the bytes sums were signed by one of signers (none: by one of
    the reader's own list, or else by the key that vault.json names)."""
    name = "snapshots/%s.SHA256SUMS" % push
    given = bool(signers)
    if shutil.which("ssh-keygen") is None:
        if given:
            need_program("ssh-keygen", "openssh-client")
        say("warning: the program ssh-keygen is missing, so nobody has checked who wrote this snapshot")
        return
    pinned = given
    if not given:
        about = read_vault(vault)
        signers = known_signers(about)
        pinned = bool(signers)
        if not pinned:
            signer = parse_signer(about.get("signer")) if about else None
            if signer is None:
                raise Failure('vault.json: names no signer: give the one of the recovery sheet, --signer "ssh-ed25519 ..."')
            signers = [signer]
    with tempfile.TemporaryDirectory() as scratch:
        allowed, signature = os.path.join(scratch, "allowed_signers"), os.path.join(scratch, "sig")
        with open(allowed, "w", encoding="ascii") as f:
            for signer in signers:
                f.write('atobackupd namespaces="%s" %s\n' % (NAMESPACE, signer))
        with open(signature, "wb") as f:
            f.write(read_object(vault, name + ".sig", MAX_TEXT))
        result = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "atobackupd", "-n", NAMESPACE, "-s", signature],
            input=sums, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        why = show(" ".join(result.stdout.decode("utf-8", "replace").split()))
        raise Failure("%s: the signature does not verify with %s: do not trust this snapshot (%s)" % (
            name, "the --signer that you gave" if given else
            "the signers that are pinned here" if pinned else "the signer of vault.json", why))
    if not pinned:
        say("note: the signature is by the key that vault.json names. That proves only that the vault agrees with\n"
            "  itself, for it is not its own witness: the key on the recovery sheet, with --signer, proves who wrote it")


def parse_sums(push, data):
    """{name: digest} of SHA256SUMS, which may name this push's own two files
    and packs, and nothing else: so it cannot be another snapshot's."""
    where = "snapshots/%s.SHA256SUMS" % push
    own = ["snapshots/%s.manifest.age" % push, "snapshots/%s.json" % push]
    sums = {}
    for line in data.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  ([!-~]+)", line)
        if not match:
            raise Failure("%s: is not a list of digests: %s" % (where, show(line)))
        digest, name = match.groups()
        pack = re.fullmatch(r"packs/(.+)\.age", name)
        if name not in own and not (pack and PACK.fullmatch(pack.group(1))):
            raise Failure("%s: names %s, which no snapshot of this name has" % (where, show(name)))
        if name in sums:
            raise Failure("%s: names %s twice" % (where, name))
        sums[name] = digest
    for name in own:
        if name not in sums:
            raise Failure("%s: does not name %s: it belongs to another snapshot" % (where, name))
    return sums


def digest_of(f, progress=None, copy=None):
    """The SHA-256 of an open file, from where it stands."""
    digest = hashlib.sha256()
    while True:
        data = f.read(1 << 20)
        if not data:
            return digest.hexdigest()
        digest.update(data)
        if copy is not None:
            copy.write(data)
        if progress:
            progress.add(len(data))


def check_sums(vault, sums):
    """Read every file that the snapshot needs and compare. Gives the encrypted
    manifest, in a file of its own that nobody can change after the check."""
    sizes = {}
    for name in sums:
        with open_listed(vault, name) as f:
            sizes[name] = os.fstat(f.fileno()).st_size
    manifest = tempfile.TemporaryFile()
    progress = Progress("checking", sum(sizes.values()))
    try:
        for name in sums:
            is_manifest = name.endswith(".manifest.age")
            if is_manifest and sizes[name] > MAX_MANIFEST:
                raise Failure("%s: is larger than %s" % (name, size_text(MAX_MANIFEST)))
            with open_listed(vault, name) as f:
                if digest_of(f, progress, manifest if is_manifest else None) != sums[name]:
                    raise Failure("%s: is damaged: its SHA-256 is not the one in SHA256SUMS" % name)
    except BaseException:
        manifest.close()
        raise
    finally:
        progress.end()
    return manifest


# Decryption -----------------------------------------------------------------


class Identity:
    """The secret keys, as arguments for age."""

    def __init__(self, path):
        self.path, self.secret = os.path.abspath(path), None
        try:
            with open(path, "rb") as f:
                data = f.read(MAX_TEXT)
                if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                    self.secret = data  # a pipe gives it once, and age is started often
        except OSError as e:
            raise Failure("%s: the identity cannot be read: %s" % (path, e.strerror)) from None
        if b"AGE-SECRET-KEY-PQ-" in data.upper():
            self.hint = "post-quantum keys need age 1.3 or newer"
        else:
            self.hint = "is this the identity of one of its recipients?"
        if data.startswith(b"age-encryption.org/v1\n") or data.lstrip().startswith(b"-----BEGIN AGE ENCRYPTED FILE"):
            # age would ask for the passphrase once a pack.
            result = subprocess.run(["age", "-d", self.path], stdout=subprocess.PIPE, check=False)
            if result.returncode != 0:
                raise Failure("%s: age could not open this identity file" % path)
            self.secret = result.stdout
        elif needs_passphrase(data):
            raise Failure("%s: a passphrase protects this ssh key: copy it and take the passphrase off the copy, "
                          "ssh-keygen -p -N '' -f COPY" % path)
        if self.secret is not None and len(self.secret) > 16384:
            raise Failure("%s: holds too many keys: give the one that is needed" % path)

    def start(self, stdin, stderr):
        """Start age on an encrypted file."""
        if self.secret is None:
            return subprocess.Popen(["age", "-d", "-i", self.path], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)
        reader, writer = os.pipe()  # the secret stays off the disk; it fits into the pipe
        try:
            os.write(writer, self.secret)
            os.close(writer)
            return subprocess.Popen(["age", "-d", "-i", "/dev/fd/%d" % reader], pass_fds=(reader,),
                                    stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)
        finally:
            os.close(reader)


def needs_passphrase(data):
    """Whether data is an OpenSSH private key that is encrypted."""
    match = re.search(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", data, re.DOTALL)
    try:
        return match is not None and b"bcrypt" in base64.b64decode(match.group(1))[:64]
    except binascii.Error:
        return False


class Plain:
    """The content of an encrypted file: age and zstd at work, used with "with"
    and read from front to back. No more is decompressed than is read."""

    def __init__(self, name, f, identity):
        self.name, self.identity = name, identity
        self.errors = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
        self.processes = []
        try:
            age = identity.start(f, self.errors[0])
            self.processes.append(age)
            zstd = subprocess.Popen(["zstd", "-dcq"], stdin=age.stdout, stdout=subprocess.PIPE, stderr=self.errors[1])
            self.processes.append(zstd)
            age.stdout.close()  # zstd's alone, so that age ends when zstd does
        except BaseException:
            self.close()
            raise
        self.out = zstd.stdout

    def read(self, n):
        """n bytes, or fewer at the end."""
        return self.out.read(n)

    def finish(self):
        """At the end: stop unless both programs were content with their input."""
        age, zstd = [p.wait() for p in self.processes]
        if age == -signal.SIGPIPE and zstd != 0:
            age = 0  # zstd gave up first, and knows why
        for program, code, errors in zip(("age", "zstd"), (age, zstd), self.errors):
            if code != 0:
                errors.seek(0)
                lines = errors.read(4096).decode("utf-8", "replace").strip().splitlines() or ["exit status %d" % code]
                raise Failure("%s: %s failed: %s%s" % (
                    self.name, program, show(lines[0]), " (%s)" % self.identity.hint if program == "age" else ""))

    def close(self):
        for process in self.processes:
            process.kill()
            process.stdout.close()
            process.wait()
        for f in self.errors:
            f.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# The manifest ---------------------------------------------------------------


def read_manifest(push, f, identity):
    name = "snapshots/%s.manifest.age" % push
    f.seek(0)
    with Plain(name, f, identity) as plain:
        # Not in one read: Python would make room for the largest one first.
        data = bytearray()
        while len(data) <= MAX_MANIFEST:
            more = plain.read(1 << 20)
            if not more:
                break
            data += more
        else:
            raise Failure("%s: is larger than %s" % (name, size_text(MAX_MANIFEST)))
        plain.finish()
    return parse_json(name, data)


class Entry:
    """One file, directory or symbolic link, checked."""

    __slots__ = ("path", "type", "size", "mode", "uid", "gid", "mtime", "sha256", "target", "pages")


class Snapshot:
    """A manifest of which every claim has been checked against the others.

    runs[layer][pack] holds, flat, pack_page, pages, file and file_page of every
    run of that layer (0 base, 1 patch) in that pack."""

    def __init__(self, push, manifest, sums):
        self.where = "snapshots/%s.manifest.age" % push
        if manifest.get("format") != 1:
            raise self.bad("has another format than 1: use the recover.py that lies in the vault")
        if manifest.get("stamp") != push[:16]:
            raise self.bad("belongs to snapshot %s" % show(str(manifest.get("stamp"))))
        if manifest.get("page_size") != PAGE:
            raise self.bad("has another page size than %d" % PAGE)
        self.host = manifest.get("host") if isinstance(manifest.get("host"), str) else "?"
        self.packs = self.check_packs(manifest.get("packs") or [], sums)
        self.texts = {}
        for key, path in (("metadata", "backup-metadata.json"), ("atobackupd", "atobackupd.json")):
            text = manifest.get(key, "")
            if not isinstance(text, str):
                raise self.bad('"%s" is not a text' % key)
            if text:
                self.texts[path] = as_bytes(text)
                if self.texts[path] is None:
                    raise self.bad('"%s" is not a text' % key)
        self.runs = ({}, {})
        self.entries = self.check_files(manifest.get("files") or [])
        check_tree(self.where, self.entries, self.texts)

    def bad(self, why):
        return Failure("%s: %s" % (self.where, why))

    def check_packs(self, packs, sums):
        if not isinstance(packs, list) or len(packs) > MAX_FILES:
            raise self.bad('"packs" is not a list of packs')
        for pack in packs:
            if not isinstance(pack, str) or not PACK.fullmatch(pack):
                raise self.bad("%s is not the name of a pack" % show(str(pack)))
            if "packs/%s.age" % pack not in sums:
                raise self.bad("needs packs/%s.age, which SHA256SUMS does not name" % pack)
        if len(set(packs)) != len(packs):
            raise self.bad("names a pack twice")
        return packs

    def check_files(self, files):
        if not isinstance(files, list) or len(files) > MAX_FILES:
            raise self.bad('"files" is not a list of at most %d files' % MAX_FILES)
        entries, total = [], 0
        for number, raw in enumerate(files):
            if not isinstance(raw, dict):
                raise self.bad("file %d is not an object" % number)
            entry = self.check_file(raw)
            for layer, key in enumerate(("base", "patch")):
                self.check_runs(entry, number, layer, key, raw.get(key) or [])
            files[number] = None  # the parsed form is many times as large as ours
            total += entry.size if entry.type == "file" else 0
            if total > MAX_SIZE:
                raise self.bad("its files are larger than %s together" % size_text(MAX_SIZE))
            entries.append(entry)
        return entries

    def check_file(self, raw):
        entry = Entry()
        entry.path = check_path(self.where, raw.get("path"))
        name = show(entry.path)
        entry.type = raw.get("type")
        if entry.type not in ("file", "dir", "symlink"):
            raise self.bad("%s: is neither file, dir nor symlink but %s" % (name, show(str(entry.type))))
        entry.size = raw.get("size", 0)
        if not is_count(entry.size, MAX_SIZE):
            raise self.bad("%s: its size is not a number up to %s" % (name, size_text(MAX_SIZE)))
        entry.pages = -(-entry.size // PAGE) if entry.type == "file" else 0
        for key, limit in (("mode", 0o7777), ("uid", (1 << 32) - 2), ("gid", (1 << 32) - 2)):
            value = raw.get(key, 0)
            if not is_count(value, limit):
                raise self.bad("%s: its %s is not a number up to %d" % (name, key, limit))
            setattr(entry, key, value)
        entry.mtime = parse_time(raw.get("mtime"))
        if entry.mtime is None:
            raise self.bad("%s: its mtime is not a time: %s" % (name, show(str(raw.get("mtime")))))
        entry.sha256, entry.target = raw.get("sha256"), raw.get("target")
        if entry.type == "file" and not (isinstance(entry.sha256, str) and DIGEST.fullmatch(entry.sha256)):
            raise self.bad("%s: has no SHA-256" % name)
        return entry

    def check_runs(self, entry, number, layer, key, runs):
        name = show(entry.path)
        if not isinstance(runs, list):
            raise self.bad('%s: "%s" is not a list of runs' % (name, key))
        if runs and entry.type != "file":
            raise self.bad("%s: is a %s and has content" % (name, entry.type))
        for run in runs:
            if not (isinstance(run, list) and len(run) == 4 and all(is_count(n, 1 << 40) for n in run)):
                raise self.bad("%s: a %s run is not four numbers: %s" % (name, key, show(str(run))))
            file_page, pages, pack, pack_page = run
            if pages == 0 or file_page + pages > entry.pages:
                raise self.bad("%s: the %s run %s lies outside the file" % (name, key, run))
            if pack >= len(self.packs) or pack_page + pages > MAX_PACK_PAGES:
                raise self.bad("%s: the %s run %s lies outside every pack" % (name, key, run))
            self.runs[layer].setdefault(pack, array.array("q")).extend((pack_page, pages, number, file_page))
        end = 0
        for run in sorted(runs):
            if run[0] < end:
                raise self.bad("%s: the %s run %s overlaps another" % (name, key, run))
            end = run[0] + run[1]

    def layer_bytes(self, layer):
        return sum(sum(flat[1::4]) for flat in self.runs[layer].values()) * PAGE


def as_bytes(text):
    """UTF-8, or None: JSON can hold half a character (a lone surrogate)."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return None


def check_path(where, path):
    """A path that stays below the directory that it is joined to."""
    if not isinstance(path, str) or not path:
        raise Failure("%s: a file has no path" % where)
    name, raw = show(path), as_bytes(path)
    if raw is None:
        raise Failure("%s: %s: the path is not text" % (where, name))
    if b"\0" in raw:
        raise Failure("%s: %s: the path holds a NUL" % (where, name))
    if path.startswith("/"):
        raise Failure("%s: %s: the path is absolute" % (where, name))
    parts = raw.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise Failure("%s: %s: the path has an empty part, . or .." % (where, name))
    if len(raw) > 4000 or any(len(part) > 255 for part in parts):
        raise Failure("%s: %s: the path is too long" % (where, name))
    return path


def check_tree(where, entries, texts):
    """No path twice, nothing inside what is not a directory, and no link that
    leads out: neither by itself nor through another one."""
    types = {path: "file" for path in texts}
    for entry in entries:
        if entry.path in types:
            raise Failure("%s: %s: the path appears twice" % (where, show(entry.path)))
        types[entry.path] = entry.type
    for entry in entries:
        for parent in parents(entry.path):
            if types.get(parent, "dir") != "dir":
                raise Failure("%s: %s: the path passes through %s, which is a %s" % (
                    where, show(entry.path), show(parent), types[parent]))
        if entry.type == "symlink":
            why = bad_target(entry, types)
            if why:
                raise Failure("%s: %s: the symlink to %s %s" % (where, show(entry.path), show(str(entry.target)), why))


def parents(path):
    """a and a/b for a/b/c."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def bad_target(entry, types):
    target = entry.target
    if not isinstance(target, str) or not target or "\0" in target or len(target) > 4000 or as_bytes(target) is None:
        return "has no usable target"
    if target.startswith("/"):
        return "leaves the snapshot"
    place = entry.path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            # ".." after a link goes up from where the link leads, not from where
            # it stands, so what looks as if it stayed inside may leave.
            if not place or types.get("/".join(place)) == "symlink":
                return "leaves the snapshot"
            place.pop()
        elif part not in ("", "."):
            place.append(part)
    return None


def parse_time(text):
    """RFC 3339 to nanoseconds since 1970, or None."""
    match = TIME.fullmatch(text) if isinstance(text, str) else None
    if not match:
        return None
    clock, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(clock + ("+00:00" if zone == "Z" else zone))
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))


# Writing --------------------------------------------------------------------


class Tree:
    """The files while they are being written, below a directory of ours. There
    are no symbolic links in it until all files are done."""

    def __init__(self, root, entries):
        self.root, self.entries = root, entries
        self.open_files = collections.OrderedDict()

    def path(self, entry):
        return os.path.join(self.root, entry.path)

    def create(self):
        """Directories, and files full of zeros, which take no space yet."""
        for entry in sorted(self.entries, key=lambda e: e.path.count("/")):
            directory = entry.path if entry.type == "dir" else os.path.dirname(entry.path)
            os.makedirs(os.path.join(self.root, directory), exist_ok=True)
        for entry in self.entries:
            if entry.type == "file":
                fd = os.open(self.path(entry), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                try:
                    os.ftruncate(fd, entry.pages * PAGE)
                finally:
                    os.close(fd)

    def file(self, number):
        """An open descriptor; a few stay open, the least recently used goes."""
        fd = self.open_files.pop(number, None)
        if fd is None:
            while len(self.open_files) >= 64:
                os.close(self.open_files.popitem(last=False)[1])
            fd = os.open(self.path(self.entries[number]), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.open_files[number] = fd
        return fd

    def put(self, number, offset, data):
        fd = self.file(number)
        while data:
            n = os.pwrite(fd, data, offset)
            data, offset = data[n:], offset + n

    def xor(self, number, offset, data):
        before = os.pread(self.file(number), len(data), offset)
        if len(before) != len(data):
            raise Failure("%s: could not be read back" % show(self.entries[number].path))
        mixed = int.from_bytes(before, "little") ^ int.from_bytes(data, "little")
        self.put(number, offset, memoryview(mixed.to_bytes(len(data), "little")))

    def close(self):
        while self.open_files:
            os.close(self.open_files.popitem()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def apply_pack(plain, flat, write, progress):
    """Read one pack from its first page to the last one that is needed, and
    hand each run its pages as they go by. A page may belong to several runs."""
    runs = sorted(zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4]))
    end = max(run[0] + run[1] for run in runs)
    position, coming, active = 0, 0, []
    while position < end:
        stop = min(position + CHUNK, end)
        data = plain.read((stop - position) * PAGE)
        if len(data) != (stop - position) * PAGE:
            plain.finish()
            raise Failure("%s: ends at page %d, and page %d is needed" % (plain.name, position + len(data) // PAGE, end - 1))
        while coming < len(runs) and runs[coming][0] < stop:
            active.append(runs[coming])
            coming += 1
        view = memoryview(data)
        for pack_page, pages, number, file_page in active:
            low, high = max(pack_page, position), min(pack_page + pages, stop)
            write(number, (file_page + low - pack_page) * PAGE, view[(low - position) * PAGE:(high - position) * PAGE])
            progress.add((high - low) * PAGE)
        active = [run for run in active if run[0] + run[1] > stop]
        position = stop
    # The pack may hold pages that this snapshot does not need. Where it ends
    # here, age has to agree that this is its end.
    if not plain.read(1):
        plain.finish()


def write_content(vault, snapshot, tree, identity):
    """All of the base first, then all patches: a patch is XORed over what the
    base left. Each pack is read once a layer."""
    progress = Progress("restoring", snapshot.layer_bytes(0) + snapshot.layer_bytes(1))
    try:
        for layer, write in enumerate((tree.put, tree.xor)):
            for index in sorted(snapshot.runs[layer]):
                name = "packs/%s.age" % snapshot.packs[index]
                with open_listed(vault, name) as f, Plain(name, f, identity) as plain:
                    apply_pack(plain, snapshot.runs[layer][index], write, progress)
    finally:
        progress.end()


def finish_files(snapshot, tree):
    """Cut the files to their sizes and compare their digests."""
    files = [entry for entry in snapshot.entries if entry.type == "file"]
    progress = Progress("checking", sum(entry.size for entry in files))
    try:
        for entry in files:
            with open(tree.path(entry), "r+b", buffering=0) as f:
                f.truncate(entry.size)
                if digest_of(f, progress) != entry.sha256:
                    raise Failure("%s: came back with another SHA-256 than its manifest has: "
                                  "it is not what was backed up" % show(entry.path))
    finally:
        progress.end()


def finish_tree(snapshot, tree, owner):
    """Links, owners, modes and times. What the file system refuses is a
    warning: the content is there. Gives the warnings."""
    warnings = []
    entries = snapshot.entries
    for path, text in snapshot.texts.items():
        with open(os.path.join(tree.root, path), "xb") as f:
            f.write(text)
    for entry in entries:
        if entry.type == "file":
            apply_attributes(tree.path(entry), entry, owner, warnings)
    for entry in entries:
        if entry.type == "symlink":
            os.symlink(entry.target, tree.path(entry))
            apply_attributes(tree.path(entry), entry, owner, warnings)
    # The deepest first: whatever is made in a directory changes its time, and
    # its mode may forbid it.
    for entry in sorted(entries, key=lambda e: e.path.count("/"), reverse=True):
        if entry.type == "dir":
            apply_attributes(tree.path(entry), entry, owner, warnings)
    return warnings


def apply_attributes(path, entry, owner, warnings):
    def attempt(what, call):
        try:
            call()
        except OSError as e:
            warnings.append("%s: could not set its %s: %s" % (show(entry.path), what, e.strerror))

    # Nothing becomes root's that does not lie among root's files, and no bit gives
    # whoever runs a file the rights of somebody else.
    if os.geteuid() == 0:
        uid, gid = entry.uid or owner.st_uid, entry.gid or owner.st_gid
        attempt("owner", lambda: os.lchown(path, uid, gid))
    if entry.type != "symlink":
        attempt("mode", lambda: os.chmod(path, entry.mode & 0o777))
    attempt("time", lambda: os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False))


def check_destination(vault, path):
    """The absolute path of the directory to make; it must be absent or empty, and
    not in the vault."""
    path, vault = os.path.realpath(path), os.path.realpath(vault)
    if os.path.commonpath([path, vault]) == vault:
        raise Failure("%s: is inside the vault: give a directory elsewhere" % path)
    if os.path.lexists(path):
        if not os.path.isdir(path):
            raise Failure("%s: is there and is not a directory" % path)
        if os.listdir(path):
            raise Failure("%s: is not empty: give a directory that is absent or empty" % path)
        if os.path.ismount(path):
            raise Failure("%s: is a mount point, which nothing can be renamed to: give a directory inside it" % path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def check_space(directory, snapshot):
    need, free = snapshot.layer_bytes(0), shutil.disk_usage(directory).free
    if need > free:
        raise Failure("%s: the snapshot needs %s and there are %s free" % (directory, size_text(need), size_text(free)))


def remove_tree(path):
    """Remove what an unfinished run made, also what it made unwritable."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def restore_into(vault, snapshot, identity, to):
    """Write beside the destination and rename at the end, so that a run that
    was cut leaves nothing that looks whole."""
    parent, name = os.path.split(to)
    check_space(parent, snapshot)
    scratch = tempfile.mkdtemp(prefix="." + name[:100] + ".", suffix=".partial", dir=parent)
    try:
        with Tree(scratch, snapshot.entries) as tree:
            tree.create()
            write_content(vault, snapshot, tree, identity)
        finish_files(snapshot, tree)
        warnings = finish_tree(snapshot, tree, os.stat(parent))
        if os.path.isdir(to):
            shutil.copymode(to, scratch)
        os.sync()
        os.rename(scratch, to)  # also onto an empty directory
        os.sync()
        return warnings
    except BaseException:
        remove_tree(scratch)
        raise


# Commands -------------------------------------------------------------------


def print_list(vault):
    pushes = list_pushes(vault)
    if not pushes:
        print("there is no snapshot in %s" % vault)
        return
    print("%-16s  %-11s  %-4s  %-6s  %s" % ("STAMP", "KIND", "FULL", "PINNED", "PUSH"))
    for p in pushes:
        print("%-16s  %-11s  %-4s  %-6s  %s" % (
            p["stamp"], show(p["kind"]), "yes" if p["full"] else "no", "yes" if p["pinned"] else "no", p["push"]))


def restore(vault, options):
    need_program("age", "age")
    need_program("zstd", "zstd")
    start = time.monotonic()
    signers = [parse_signer(text) for text in options.signer]
    if None in signers:
        raise Failure('--signer: is not a public key of the form "ssh-ed25519 AAAA..."')
    try:
        read_vault(vault)
    except Failure as e:
        if not signers:
            raise
        say("warning: %s; going on, for the signer is known" % e)
    chosen = choose(list_pushes(vault), options.stamp)
    push = chosen["push"]
    sums = read_object(vault, "snapshots/%s.SHA256SUMS" % push, MAX_SUMS)
    check_signature(vault, push, sums, signers)
    sums = parse_sums(push, sums)
    to = check_destination(vault, options.to)
    identity = Identity(options.identity)
    with check_sums(vault, sums) as manifest:
        snapshot = Snapshot(push, read_manifest(push, manifest, identity), sums)
    warnings = restore_into(vault, snapshot, identity, to)

    for warning in warnings[:20]:
        say("warning: " + warning)
    if len(warnings) > 20:
        say("warning: and %d more like these" % (len(warnings) - 20))
    if os.geteuid() != 0:
        say("note: the owners of the files are not put back, which only root can do")
    files = [entry for entry in snapshot.entries if entry.type == "file"]
    print("restored %s (%s, from %s) into %s: %d files, %s, every digest right, in %.0f s" % (
        chosen["stamp"], show(chosen["kind"]), show(snapshot.host), to, len(files),
        size_text(sum(entry.size for entry in files)), time.monotonic() - start))


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="recover.py", description="Get a snapshot back out of an atobackup vault, without atobackupd.")
    parser.add_argument("stamp", nargs="?", metavar="STAMP|PUSH", help='a stamp or a push that --list shows, or "latest"')
    parser.add_argument("--list", action="store_true", help="show the snapshots; needs no key")
    parser.add_argument("--identity", metavar="FILE", help="the secret key: of age-keygen, or an OpenSSH private key")
    parser.add_argument("--to", metavar="DIR", help="where to put the snapshot; absent or empty")
    parser.add_argument("--signer", metavar="KEY", action="append", default=[], help='who must have written it, "ssh-ed25519 AAAA...": see the recovery sheet')
    parser.add_argument("--vault", metavar="PATH", default=os.path.dirname(os.path.abspath(__file__)),
                        help="the vault; the directory of this file if not given")
    options = parser.parse_args(arguments)
    if options.list:
        if options.stamp:
            parser.error("--list takes no STAMP")
    elif not options.stamp:
        parser.error("give the STAMP of a snapshot or latest; --list shows what there is")
    elif options.stamp != "latest" and not re.fullmatch(STAMP + "(-[0-9a-f]{6})?", options.stamp):
        parser.error("%s is not a stamp like 20260407T060000Z" % show(options.stamp))
    elif not options.identity or not options.to:
        parser.error("a restore needs --identity FILE and --to DIR")
    return options


def stop(number, _):
    """A signal ends the run as Ctrl-C does, and so cleans up."""
    raise KeyboardInterrupt


def main(arguments):
    options = parse_arguments(arguments)
    os.umask(0o077)  # until the modes of the snapshot are set
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, stop)
    try:
        if options.list:
            print_list(options.vault)
        else:
            restore(options.vault, options)
        return 0
    except Failure as e:
        text = str(e)
        print(text if text.startswith("recover.py ") else "recover.py: " + text, file=sys.stderr)
    except KeyboardInterrupt:
        print("recover.py: interrupted: nothing was restored", file=sys.stderr)
    except OSError as e:
        print("recover.py: %s" % e, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
