#!/usr/bin/env python3
"""The built program beside what a user would take instead, on one generated store: docs/benchmarks.md.

    bench.py BINARY [--mb 384] [--rounds 3] [--s3 HOST:PORT --s3-name NAME] [--out FILE]

Each command runs as a user runs it, and each result is compared with the store. Peers that are not
installed are left out and named. The off-site peers talk to this machine's OpenSSH over loopback, and with
--s3 to a server there (key "user", secret "secret12345").
"""
import argparse, collections, contextlib, json, os, pathlib, platform, random, re, shutil, signal, socket, sqlite3
import statistics, subprocess, sys, tempfile, textwrap, time, uuid

HERE = pathlib.Path(__file__).resolve().parent
WORDS = [w for w in re.findall(r"[a-z]{3,}", (HERE.parent.parent / "docs/threat-model.md").read_text().lower())]


def run(*args, **more):
    """Run a command that is not measured."""
    p = subprocess.run([str(a) for a in args], text=True, capture_output=True, **more)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p.stdout


def bytes_in(directory):
    return sum(p.stat().st_size for p in pathlib.Path(directory).rglob("*") if p.is_file() and not p.is_symlink())


class Store:
    """AtoCore's shape: a WAL database of text and random keys, a registry, a Chroma directory."""

    def __init__(self, root, rng):
        self.root, self.rng, self.db = root, rng, root / "db/atocore.db"

    def make(self, megabytes):
        for part in ("db", "config", "chroma"):
            (self.root / part).mkdir(parents=True)
        (self.root / "config/project-registry.json").write_text('{"projects": [{"id": "atocore"}]}\n')
        run("tar", "-xzf", HERE.parent.parent / "cmd/demo/chroma.tar.gz", "--strip-components=1", "-C",
            self.root / "chroma")
        with self.open() as db:
            db.execute("CREATE TABLE chunks (id TEXT PRIMARY KEY, body TEXT NOT NULL, confidence REAL)")
        rows = megabytes * 1000 // 2
        while rows > 0:
            with self.open() as db:
                db.executemany("INSERT INTO chunks VALUES (?, ?, ?)", (self.row() for _ in range(min(rows, 20000))))
            rows -= 20000

    @contextlib.contextmanager
    def open(self):
        """The database for one transaction; nothing is left open, as a restore refuses that."""
        with contextlib.closing(sqlite3.connect(self.db)) as db:
            db.execute("PRAGMA journal_mode=wal")
            with db:
                yield db

    def row(self):
        text = " ".join(self.rng.choices(WORDS, k=self.rng.randint(150, 330)))
        return str(uuid.UUID(int=self.rng.getrandbits(128))), text, self.rng.random()

    def day(self):
        """A day's work: 0.5 % of the rows are new, 0.2 % changed at random, 0.05 % deleted."""
        with self.open() as db:
            ids = [row[0] for row in db.execute("SELECT id FROM chunks")]
            db.executemany("INSERT INTO chunks VALUES (?, ?, ?)", [self.row() for _ in range(len(ids) // 200)])
            db.executemany("UPDATE chunks SET body = ? WHERE id = ?",
                           [(self.row()[1], i) for i in self.rng.sample(ids, len(ids) // 500)])
            db.executemany("DELETE FROM chunks WHERE id = ?", [(i,) for i in self.rng.sample(ids, len(ids) // 2000)])

    def digest(self, db=None):
        with contextlib.closing(sqlite3.connect(f"file:{db or self.db}?immutable=1", uri=True)) as c:
            return c.execute("SELECT count(*), sum(length(body)), sum(confidence), max(id) FROM chunks").fetchone()


class Sshd:
    """This machine's OpenSSH, for the user who runs this, with keys of its own."""

    def __init__(self, directory):
        self.dir = directory
        directory.mkdir(mode=0o700)
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key)
        shutil.copy(directory / "user.pub", directory / "authorized_keys")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {directory}/host\nStrictModes no\nPidFile none\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nSubsystem sftp internal-sftp\nUsePAM no\n")
        self.user = run("id", "-un").strip()
        host = (directory / "host.pub").read_text().split()
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host[0]} {host[1]}\n")
        pathlib.Path("/run/sshd").exists() or os.getuid() or os.mkdir("/run/sshd")
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", str(directory / "sshd_config")],
                                        stderr=open(directory / "log", "w"))
        self.ssh = (f"ssh -p {self.port} -i {directory}/user -o UserKnownHostsFile={directory}/known_hosts "
                    f"-o BatchMode=yes")
        for _ in range(100):
            if subprocess.run(["bash", "-c", f"echo >/dev/tcp/127.0.0.1/{self.port}"], stderr=subprocess.DEVNULL
                              ).returncode == 0:
                return
            time.sleep(0.05)
        sys.exit((directory / "log").read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Bench:
    def __init__(self, work, binary, megabytes):
        self.work, self.binary = pathlib.Path(work), binary
        self.made = Store(self.work / "store", random.Random(42))
        self.made.make(megabytes)
        self.bytes = self.made.db.stat().st_size
        self.figures = collections.defaultdict(list)  # (work, tool) -> [(wall s, CPU s, peak MB)]
        self.sizes = collections.defaultdict(list)    # (what, tool) -> [bytes]

    def time(self, what, tool, *command, env=None, shell=False):
        """Measure one command, after what others wrote has reached the disk."""
        os.sync()
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as log:
            words = ["bash", "-ec", command[0]] if shell else [str(c) for c in command]
            p = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **(env or {})})
            _, status, usage = os.wait4(p.pid, 0)
            wall = time.monotonic() - began
            p.returncode = os.waitstatus_to_exitcode(status)
            if p.returncode:
                log.seek(0)
                sys.exit(f"{tool}: {what}: exit {p.returncode}\n{' '.join(words)}\n{log.read()}")
        self.figures[what, tool].append((wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000))
        print(f"{what:28} {tool:10} {wall:7.2f} s", file=sys.stderr, flush=True)

    def round(self, s3):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=self.work))
        shutil.copytree(self.made.root, self.dir / "store")
        self.store = Store(self.dir / "store", self.made.rng)
        self.sshd = Sshd(self.dir / "ssh")
        try:
            self.local()
            self.offsite(s3)
        finally:
            self.sshd.stop()
            shutil.rmtree(self.dir)

    def ours(self, *args):
        return (self.binary, "--config", self.dir / "config.toml", *args)

    def configure(self, targets):
        _, key = self.keys()
        d = self.dir
        (d / "config.toml").write_text(f"""state_dir = "{d}/state"
[atocore]
db_path = "{d}/store/db/atocore.db"
registry_path = "{d}/store/config/project-registry.json"
chroma_path = "{d}/store/chroma"
[backup]
dir = "{d}/backups"
[retention]
max_delete_fraction = 1.0
[http]
listen = ""
[encryption]
recipients = ["{key}"]
{targets}""")

    def keys(self):
        path = self.dir / "key.txt"
        if not path.exists():
            run("age-keygen", "-o", path)
        return path, re.search(r"age1\w+", path.read_text()).group()

    def local(self):
        self.configure("")
        d, db = self.dir, self.store.db
        self.time("take", "atobackupd", *self.ours("backup", "--chroma"))
        self.time("take", "sqlite3", f"""sqlite3 {db} ".backup '{d}/copy.db'"; cp -a {d}/store/chroma {d}/copy-chroma
            sqlite3 {d}/copy.db 'PRAGMA integrity_check' | grep -qx ok
            sha256sum {d}/copy.db; sync {d}/copy.db""", shell=True)
        self.time("take", "cp", f"cp {db} {d}/plain.db; sync {d}/plain.db", shell=True)
        self.store.day()
        self.time("take, a day later", "atobackupd", *self.ours("backup", "--chroma"))
        self.time("take, a day later", "sqlite3", f"""sqlite3 {db} ".backup '{d}/copy2.db'"
            sqlite3 {d}/copy2.db 'PRAGMA integrity_check' | grep -qx ok
            sha256sum {d}/copy2.db; sync {d}/copy2.db""", shell=True)
        self.time("take, a day later", "cp", f"cp {db} {d}/plain.db; sync {d}/plain.db", shell=True)
        want = self.store.digest()
        back = "put back, what was live kept"
        self.time(back, "atobackupd", *self.ours("restore", "latest", "--confirm-service-stopped"))
        self.time(back, "sqlite3", f"""cp {db} {d}/before.db; sync {d}/before.db
            sqlite3 {d}/copy2.db 'PRAGMA integrity_check' | grep -qx ok
            cp {d}/copy2.db {db}; sync {db}""", shell=True)
        self.same(want, db)
        for name in ("copy.db", "copy2.db", "plain.db", "before.db"):
            (d / name).unlink()

    def same(self, want, db):
        if self.store.digest(db) != want:
            sys.exit(f"{db} does not hold what the store held")

    def offsite(self, s3):
        """First push, a day, verify, fetch: by sftp, and to a bucket."""
        d, ssh = self.dir, self.sshd
        shutil.rmtree(d / "backups")
        shutil.rmtree(d / "state")
        targets = f"""[[offsite]]
name = "sftp"
hosts = ["127.0.0.1"]
port = {ssh.port}
user = "{ssh.user}"
identity_file = "{ssh.dir}/user"
known_hosts = "{ssh.dir}/known_hosts"
path = "{d}/vault"
"""
        places = {"sftp": f"sftp:{ssh.user}@127.0.0.1:{d}/restic"}
        if s3:
            (d / "credentials").write_text("[default]\naws_access_key_id = user\naws_secret_access_key = secret12345\n")
            (d / "credentials").chmod(0o600)
            self.bucket = "bench-" + uuid.uuid4().hex[:8]
            for tool in ("atobackupd", "restic"):
                run("rclone", "mkdir", f"s3:{self.bucket}-{tool}", env=s3_env(s3))
            targets += f"""[[offsite]]
name = "s3"
type = "s3"
endpoint = "http://{s3}"
bucket = "{self.bucket}-atobackupd"
credentials_file = "{d}/credentials"
lock_for = "off"
"""
            places["s3"] = f"s3:http://{s3}/{self.bucket}-restic"
        self.configure(targets)
        env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(d / "cache"), "AWS_ACCESS_KEY_ID": "user",
               "AWS_SECRET_ACCESS_KEY": "secret12345"}
        restic = {place: ["restic", "-r", repository] + (
            ["-o", f"sftp.command={ssh.ssh} {ssh.user}@127.0.0.1 -s sftp"] if place == "sftp" else [])
            for place, repository in places.items()} if shutil.which("restic") else {}
        for words in restic.values():
            run(*words, "init", env={**os.environ, **env})
        held = collections.Counter()
        for day, what in enumerate(("first push", "a day's push")):
            if day:
                self.store.day()
            run(*self.ours("backup", "--chroma"))
            for place in places:
                self.time(f"{what}, {place}", "atobackupd", *self.ours("sync", "--target", place))
                if place in restic:
                    self.time(f"{what}, {place}", "restic", *restic[place], "backup", "--quiet", d / "store",
                              env=env)
                for tool in ("atobackupd", "restic")[:1 + (place in restic)]:
                    total = self.held(place, tool, s3)
                    self.sizes[f"{what}, {place}", tool].append(total - held[place, tool])
                    held[place, tool] = total
            if shutil.which("rsync"):
                self.time(f"{what}, sftp", "rsync", "rsync", "-a", "-e", ssh.ssh, f"{d}/store/",
                          f"{ssh.user}@127.0.0.1:{d}/mirror/")
        want = self.store.digest()
        for place in places:
            self.time(f"verify all, {place}", "atobackupd", *self.ours("vault", "verify", "--target", place))
            if place in restic:
                self.time(f"verify all, {place}", "restic", *restic[place], "check", "--read-data", "--quiet", env=env)
            self.time(f"fetch, {place}", "atobackupd", *self.ours("vault", "restore", "latest", "--target", place,
                      "--identity", d / "key.txt", "--to", d / f"ours-{place}"))
            self.same(want, d / f"ours-{place}/db/atocore.db")
            if place in restic:
                self.time(f"fetch, {place}", "restic", *restic[place], "restore", "latest", "--quiet", "--target",
                          d / f"restic-{place}", env=env)
                self.same(want, f"{d}/restic-{place}{d}/store/db/atocore.db")
        if shutil.which("rsync"):
            self.time("fetch, sftp", "rsync", "rsync", "-a", "-e", ssh.ssh, f"{ssh.user}@127.0.0.1:{d}/mirror/",
                      f"{d}/back/")

    def held(self, place, tool, s3):
        """How many bytes lie there."""
        if place == "sftp":
            return bytes_in(self.dir / {"atobackupd": "vault", "restic": "restic"}[tool])
        return json.loads(run("rclone", "size", "--json", f"s3:{self.bucket}-{tool}", env=s3_env(s3)))["bytes"]


def s3_env(s3):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    remote = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": f"http://{s3}", "ACCESS_KEY_ID": "user",
              "SECRET_ACCESS_KEY": "secret12345", "FORCE_PATH_STYLE": "true"}
    return {**plain, "RCLONE_CONFIG": "/dev/null", **{f"RCLONE_CONFIG_S3_{k}": v for k, v in remote.items()}}


# Each table: its title, the peer that ours is held beside, what to know, its rows.
WORK = (
    ("Take a snapshot, put it back", "sqlite3", """
        `sqlite3` is the careful way by hand: `.backup`, `integrity_check`, `sha256sum`, flush (and `cp -a` of Chroma
        the first time). `cp` with a flush is the speed of the disk, and no backup: a live database that is copied so
        is often broken. `atobackupd` copies, digests, validates and publishes; its way back stages, proves, swaps,
        and then makes what was live a snapshot of its own, with digests and checks, where the way by hand keeps a
        plain copy.""",
     ("take", "take, a day later", "put back, what was live kept")),
    ("To a second machine, by sftp", "restic", """
        OpenSSH on loopback, so the network costs nothing. restic has its key on the host; rsync neither encrypts what
        it leaves there, nor keeps yesterday, nor copies a live database soundly.""",
     ("first push, sftp", "a day's push, sftp", "verify all, sftp", "fetch, sftp")),
    ("To a bucket, by S3", "restic", """
        The same store; the server is on loopback, too, and the bucket has no Object Lock.""",
     ("first push, s3", "a day's push, s3", "verify all, s3", "fetch, s3")),
)


def table(b, works, beside):
    """Rows of medians, and of ours over the peer's."""
    lines = ["| | tool | wall | CPU | peak | stored | beside |", "|---|---|--:|--:|--:|--:|--:|"]
    for what in works:
        for (w, tool), figures in b.figures.items():
            if w != what:
                continue
            wall, cpu, peak = (statistics.median(column) for column in zip(*figures))
            sizes = b.sizes.get((what, tool))
            stored = f"{statistics.median(sizes) / 1e6:.1f} MB" if sizes else ""
            other = b.figures.get((what, beside))
            ratio = ""
            if tool == "atobackupd" and other:
                ratio = wall / statistics.median(f[0] for f in other)
                ratio = f"{ratio:.2f} of {beside}" if ratio <= 1 else f"**{ratio:.2f} of {beside}: slower**"
            title = what.removesuffix(", sftp").removesuffix(", s3") if tool == "atobackupd" else ""
            lines.append(f"| {title} | {tool} | {wall:.2f} s | {cpu:.2f} s | {peak:.0f} MB | {stored} | {ratio} |")
    return "\n".join(lines)


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return (out.stdout + out.stderr).strip().splitlines()[0]


def versions(binary, s3_name):
    told = [first_line(binary, "version"),
            " ".join(first_line("restic", "version").split()[:2]) or "restic not installed",
            "sqlite3 " + first_line("sqlite3", "--version").split()[0],
            " ".join(first_line("rsync", "--version").split()[:3]) or "rsync not installed",
            first_line("ssh", "-V").split(",")[0], s3_name]
    return [line for line in told if line]


def machine(work):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    mounts = [line.split()[1:3] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    disk = max((m for m in mounts if (work + "/").startswith(m[0].rstrip("/") + "/")), key=lambda m: len(m[0]))[1]
    return (f"{os.cpu_count()} cores of {cpu.group(1) if cpu else platform.machine()}, {memory:.0f} GB of memory, "
            f"{disk}, Linux {platform.release().split('-')[0]}")


# What a process that Python starts is said to have taken before it runs anything.
FLOOR = 43


def page(b, rounds, s3_name, work):
    text = f"""# Benchmarks

Made by `make bench` on {time.strftime("%Y-%m-%d")}: the built program beside what a user would take instead, as whole
processes, on one generated store: a database of {b.bytes / 1e6:.0f} MB (text and random keys, WAL), a registry, a small
Chroma directory. A day is 0.5 % of the rows new, 0.2 % changed at random, 0.05 % deleted. Medians of {rounds} rounds,
each on a store of its own, read into the page cache. CPU and peak memory are the command's and its children's, not the
server's; the peak counts a database that SQLite maps, which is page cache, and {FLOOR} MB are what the measurement itself
takes. What came back was compared with the store.

- {", ".join(versions(b.binary, s3_name))}
- {machine(work)}

"""
    for title, beside, words, works in WORK:
        if any((what, "atobackupd") in b.figures for what in works):
            words = textwrap.fill(" ".join(words.split()), 120)
            text += f"## {title}\n\n{words}\n\n{table(b, works, beside)}\n\n"
    return text.rstrip() + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("binary")
    p.add_argument("--mb", type=int, default=384)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--s3", metavar="HOST:PORT")
    p.add_argument("--s3-name", default="", help="what that server is, with its version")
    p.add_argument("--out", default="-")
    a = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="atobackupd-bench-", dir=os.environ.get("TMPDIR")) as work:
        b = Bench(work, str(pathlib.Path(a.binary).resolve()), a.mb)
        for _ in range(a.rounds):
            b.round(a.s3)
        text = page(b, a.rounds, a.s3_name, work)
    sys.stdout.write(text) if a.out == "-" else pathlib.Path(a.out).write_text(text)


if __name__ == "__main__":
    main()
