#!/usr/bin/env python3
"""How long a service is away while its store is restored, beside its own stop and start.

    outage.py BINARY [--gb 0.1 1.7 4] [--rounds 3] [--work DIR] [--backups DIR]

A service that holds its database open is asked 50 times a second. It is stopped and started by its own
commands first, and then by `restore --manage-service`. --backups lays the snapshots on another file system.
"""
import argparse, contextlib, http.client, pathlib, random, shutil, sqlite3, statistics, sys, tempfile, threading, time, urllib.request

from bench import Store, run

SERVICE = """
import http.server, sqlite3, sys
db = sqlite3.connect(sys.argv[1], check_same_thread=False)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = str(db.execute("SELECT max(rowid) FROM filler").fetchone()[0]).encode()
        self.send_response(200), self.send_header("Content-Length", str(len(answer))), self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


class Client(threading.Thread):
    """Asks 50 times a second, and knows the longest time from one answer to the next."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.longest, self.last = url, 0.0, None
        self.start()

    def run(self):
        while True:
            began = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(self.url, timeout=0.5).read()
                now = time.monotonic()
                self.longest = max(self.longest, now - (self.last or now))
                self.last = now
            time.sleep(max(0.0, 0.02 - (time.monotonic() - began)))

    def outage(self, *commands):
        """The longest pause while the commands ran, in seconds."""
        self.last, self.longest = None, 0.0
        while self.last is None:
            time.sleep(0.01)
        for command in commands:
            run(*command)
        answered = self.last
        while self.last == answered:
            time.sleep(0.01)
        time.sleep(0.1)
        return self.longest


def measure(binary, gigabytes, rounds, work, backups):
    store = Store(work / "store", random.Random(1))
    store.make(1)
    with store.open() as db:
        db.execute("CREATE TABLE filler (body BLOB)")
    for _ in range(max(1, round(gigabytes * 20))):
        with store.open() as db:
            db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 24000)"
                       " INSERT INTO filler SELECT randomblob(2000) FROM n")
    with contextlib.closing(sqlite3.connect(store.db)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    port = random.randint(20000, 30000)
    (work / "service.py").write_text(SERVICE)
    start = ["bash", "-c", f"{sys.executable} {work}/service.py {store.db} {port} >/dev/null 2>&1 & echo $! >{work}/pid"]
    stop = ["bash", "-c", f"kill $(cat {work}/pid); while kill -0 $(cat {work}/pid) 2>/dev/null; do sleep 0.01; done"]
    url = f"http://127.0.0.1:{port}/"
    quoted = {name: "[" + ", ".join(f"'''{word}'''" for word in argv) + "]" for name, argv in
              (("start", start), ("stop", stop))}
    (work / "config.toml").write_text(f"""state_dir = "{work}/state"
[atocore]
db_path = "{store.db}"
registry_path = "{store.root}/config/project-registry.json"
chroma_path = "{store.root}/chroma"
health_url = "{url}"
[backup]
dir = "{backups}"
[http]
listen = ""
[restore]
stop_command = {quoted["stop"]}
start_command = {quoted["start"]}
""")
    ours = [binary, "--config", work / "config.toml"]
    run(*ours, "backup", "--chroma")
    run(*start)
    client, own, restored = Client(url), [], []
    try:
        for _ in range(rounds):
            own.append(client.outage(stop, start))
            restored.append(client.outage([*ours, "restore", "latest", "--manage-service"]))
    finally:
        run(*stop)
    own, away = statistics.median(own), statistics.median(restored)
    print(f"{store.db.stat().st_size / 1e9:4.1f} GB  stop and start {own:5.2f} s  restore {away:5.2f} s  "
          f"beyond {away - own:5.2f} s  longest {max(restored):5.2f} s", flush=True)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary", type=pathlib.Path)
    p.add_argument("--gb", type=float, nargs="+", default=[0.1, 1.7, 4])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--backups", type=pathlib.Path)
    a = p.parse_args()
    for gigabytes in a.gb:
        with tempfile.TemporaryDirectory(dir=a.work) as work:
            backups = pathlib.Path(tempfile.mkdtemp(dir=a.backups or work))
            try:
                measure(a.binary.resolve(), gigabytes, a.rounds, pathlib.Path(work), backups)
            finally:
                shutil.rmtree(backups, ignore_errors=True)
