// node break.mjs --dir D --oplog F
// Run it inside the Chroma kit. It writes to D through a real server and kills
// that server with SIGKILL when the kernel reports the first write of a persist
// (to --file of a segment). Most kills come too early or too late: repeat it on
// a fresh copy of D until both inspect.mjs and check.mjs refuse what is left.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { args, startServer, records, loadState, stateFile, idOf, now } from './lib.mjs';
const a = args({ dir: '', oplog: '', file: 'header.bin', pid: 0 });
if (a.pid) { // the watcher: a process of its own, so that nothing delays it
  for (const d of readdirSync(a.dir)) if (existsSync(join(a.dir, d, a.file))) watch(join(a.dir, d), (_, f) => { if (f === a.file) { process.kill(a.pid, 'SIGKILL'); process.exit(); } });
  console.log('watching');
} else {
  const st = loadState(stateFile(a.dir)), srv = await startServer(a.dir), cols = await srv.api.collections();
  const w = spawn(process.execPath, [process.argv[1], '--dir', a.dir, '--file', a.file, '--pid', String(srv.pid)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((r) => w.stdout.once('data', r));
  const { name, versions } = st.collections[0], { id } = cols.find((x) => x.name === name);
  let n = 0;
  const write = async (op, pairs) => {
    appendFileSync(a.oplog, JSON.stringify({ n: ++n, c: 0, op, start: now(), pairs }) + '\n');
    await srv.api.write(id, op, op === 'delete' ? { ids: pairs.map(([i]) => idOf(0, i)) } : records(st, 0, pairs));
    appendFileSync(a.oplog, JSON.stringify({ n, ack: now() }) + '\n');
  };
  try {
    for (let k = 0, add = versions.length, del = 0; k < 40; k++) {
      await write('add', Array.from({ length: 20 }, () => [add++, 0]));
      await write('delete', Array.from({ length: 10 }, () => [del++, -1]));
    }
  } catch { /* the server is gone */ }
  w.kill();
}
