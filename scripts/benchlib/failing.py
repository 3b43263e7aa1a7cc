"""`scripts/soak fail`: see there. One call to the outside of one daemon fails, in one migration."""
import collections
import json
import mmap
import os
import re
import struct
import subprocess
import time

from benchlib import harness
from benchlib.harness import ROOT, Failure, say
from benchlib.soak import RECORD
from benchlib.torture import KEPT, Torture
from lablib.base import LabError, read

SOURCE = os.path.join(ROOT, 'tests/faults/fail_calls.c')
SIDES = ('source', 'target')
IDLE, LIST, FAIL = range(3)
# struct control and struct site of fail_calls.c
HEAD = struct.Struct('<IIIIQII')
SITE = struct.Struct('<QII24s8Q')
SITES = 4096
REHEARSALS = 3         # migrations in which the sites are listed
AGAIN_S = 15           # until what was interrupted is cleared away and the same migration works
FILES_MORE = 6         # open files that a daemon may hold beyond those before,
FILES_PER_CONTAINER = 12  # and for each container that has come
TIDY_S = 50            # what could not be removed at once is looked for every 30 s

Site = collections.namedtuple('Site', 'hash count call frames')


class Control:
  """What fails in one daemon: a page that is shared with it."""

  def __init__(self, path):
    self.path = path
    with open(path, 'wb') as file:
      file.truncate(HEAD.size + SITES * SITE.size)
    with open(path, 'r+b') as file:
      self.memory = mmap.mmap(file.fileno(), 0)

  def write(self, state, sites=0, wanted=0, nth=0, stays=False):
    self.memory[0:4] = struct.pack('<I', IDLE)
    HEAD.pack_into(self.memory, 0, IDLE, sites, 0, 0, wanted, nth, int(stays))
    self.memory[0:4] = struct.pack('<I', state)

  def list(self):
    self.memory[HEAD.size:] = bytes(len(self.memory) - HEAD.size)
    self.write(LIST)

  def sites(self):
    self.memory[0:4] = struct.pack('<I', IDLE)
    known = min(HEAD.unpack_from(self.memory)[1], SITES)
    found = []
    for i in range(known):
      hash_, count, _, call, *frames = SITE.unpack_from(self.memory, HEAD.size + i * SITE.size)
      if count:
        found.append(Site(hash_, count, call.rstrip(b'\0').decode(), frames))
    return found

  def fail(self, site, nth, stays):
    self.write(FAIL, wanted=site, nth=nth, stays=stays)

  def fired(self):
    """How often it failed; nothing fails any more."""
    self.memory[0:4] = struct.pack('<I', IDLE)
    return HEAD.unpack_from(self.memory)[3]


def left_in_run_dir(cluster):
  """What the nodes keep there of containers that do not run on them."""
  found = []
  where = cluster.where()
  for node in cluster.nodes:
    run_dir = f'/proc/{cluster.lab.running(node).pid}/root/run/lifeboat'
    here = {name for name, at in where.items() if at == node}
    for part, allowed in (('containers', here), ('images', set()), ('crun', here)):
      names = set(os.listdir(f'{run_dir}/{part}')) if os.path.isdir(f'{run_dir}/{part}') else set()
      found += [f'{node}: {part}/{name} is left' for name in sorted(names - allowed)]
  return found


class Failing(Torture):

  def __init__(self, args, cluster):
    super().__init__(args, cluster)
    self.library = os.path.join(cluster.work, 'fail_calls.so')
    subprocess.run(['gcc', '-std=gnu11', '-O1', '-Wall', '-Wextra', '-fno-builtin', '-shared', '-fPIC', '-o',
                    self.library, SOURCE], check=True, timeout=60)
    self.controls = {node: Control(self.path(f'fail-{node}')) for node in cluster.nodes}
    for node in cluster.nodes:
      cluster.lab.daemon(node).stop()
      self.start_daemon(node)
    self.places = {}       # site: where that is
    self.results = []      # {side, mode, site, nth, place, outcome, problems}

  def start_daemon(self, node):
    changed = {'LD_PRELOAD': self.library, 'LIFEBOAT_FAIL_CALLS': self.controls[node].path}
    os.environ.update(changed)
    try:
      daemon = self.cluster.lab.daemon(node)
      daemon.start()
      daemon.wait_ready()
    finally:
      for name in changed:
        del os.environ[name]

  # ---- sites

  def rehearse(self, mode):
    """{side: sites} that whole migrations reach."""
    found = {side: {} for side in SIDES}
    for _ in range(REHEARSALS):
      source, target, *_ = self.choose(self.job.containers[0])
      for node in (source, target):
        self.controls[node].list()
      self.commit(target, mode)
      time.sleep(0.5)  # what is done after it
      for side, node in (('source', source), ('target', target)):
        for site in self.controls[node].sites():
          known = found[side].get(site.hash)
          if known is None or known.count < site.count:
            found[side][site.hash] = site
    return {side: list(sites.values()) for side, sites in found.items()}

  def commit(self, target, mode):
    """A migration that must be possible, at once or when what was before it has been cleared away."""
    end = time.monotonic() + AGAIN_S
    while True:
      report = self.try_migrate(self.job.containers[0], target, '10g', mode)
      if report.get('outcome') == 'committed':
        return report
      if time.monotonic() > end:
        raise Failure(f'no {mode} migration to {target}: {json.dumps(report.get("error", report))[:300]}')
      time.sleep(0.3)

  def name_places(self, sites):
    """Where in the sources they are: the innermost frame that is not the standard library's."""
    program = os.path.join(self.cluster.build, 'lifeboatd')
    frames = sorted({f for site in sites for f in site.frames if f and f >> 48 == 0})
    done = subprocess.run(['addr2line', '-C', '-e', program], input='\n'.join(hex(f - 1) for f in frames),
                          text=True, capture_output=True, check=False, timeout=300)
    lines = dict(zip(frames, done.stdout.splitlines()))
    for site in sites:
      own = [re.sub(r' \(disc.*', '', lines.get(f, '?')) for f in site.frames if f and f >> 48 == 0]
      # Compilers may say the path of another checkout that made the object.
      ours = [m.group(1) for m in (re.search(r'/((?:src|criu_glue|predictor|mpi)/.*)', line) for line in own
                                   if '/usr/' not in line) if m]
      self.places[site.hash] = (ours or [line.rpartition('/')[2] for line in own] or ['?'])[0]

  # ---- one failure

  def fail_once(self, side, mode, site, nth):
    result = {'side': side, 'mode': mode, 'site': f'{site.hash:x}', 'nth': nth, 'call': site.call,
              'place': self.places[site.hash], 'outcome': 'not reached', 'error': '', 'problems': []}
    try:
      self.try_failure(result, side, mode, site, nth)
      self.check_job()
    except Failure as failure:
      result['problems'].append(' / '.join(str(failure).splitlines()[:4]))
    result['problems'] += self.revive()
    if result['problems']:
      result['problems'] += [line[:300] for line in self.new_log_lines()][-12:]
    return result

  def try_failure(self, result, side, mode, site, nth):
    container = self.job.containers[0]
    source, target, *_ = self.choose(container)
    node = source if side == 'source' else target
    before = self.held()
    self.new_log_lines()
    self.controls[node].fail(site.hash, nth, self.args.stays)
    report = self.try_migrate(container, target, '10g', mode)
    if not self.controls[node].fired():
      return
    outcome = report.get('outcome')
    error = report.get('error') or ''
    result['outcome'] = outcome or 'refused'
    result['error'] = error.get('message', '') if isinstance(error, dict) else error
    where = self.settled(container)
    if where is None:
      raise Failure('the job has ended: ' + ' / '.join(self.job.lines[-3:]))
    expected = {'committed': target, 'aborted': source}.get(outcome, where)
    if where != expected:
      raise Failure(f'{outcome}, but it runs on {where}, not {expected}')
    if outcome != 'committed' and len(result['error']) < 15:
      raise Failure('nothing says why')
    self.check_progress(15)
    self.commit(target if where != target else source, mode)
    self.check_progress(15)
    result['problems'] += self.wait_tidy(before)

  def held(self):
    """{node: (open files, containers) of its daemon}"""
    where = list(self.cluster.where().values())
    return {node: (daemon['files'], where.count(node)) for node, daemon in self.cluster.daemons().items()}

  def revive(self):
    """Daemons that have ended, which none may."""
    problems = []
    for node in self.cluster.nodes:
      if self.cluster.lab.daemon(node).proc() is None:
        problems.append(f'the daemon of {node} has ended: ' + ' / '.join(self.cluster.daemon_log(node)[-2:])[:300])
        self.start_daemon(node)
    return problems

  def wait_tidy(self, before):
    """What a daemon holds, after a while, that it did not hold before."""
    end = time.monotonic() + TIDY_S
    while True:
      left = self.left(before)
      if not left or time.monotonic() > end:
        return left
      time.sleep(0.3)

  def left(self, before):
    found = []
    for node, (files, containers) in self.held().items():
      files_before, containers_before = before[node]
      more = FILES_MORE + FILES_PER_CONTAINER * max(0, containers - containers_before)
      if files > files_before + more:
        found.append(f'{node}: {files} files open, {files_before} before')
    return found + left_in_run_dir(self.cluster) + self.left_running()

  def left_running(self):
    """What was started for a migration, and is there when none goes on."""
    found = []
    for node in self.cluster.nodes:
      starter = self.cluster.lab.daemon(node).starter()
      for name in ('criu', 'lifeboat-pager', 'lifeboat-inject') if starter else ():
        found += [f'{node}: {name} ({pid}) still runs' for pid in self.processes(starter.pid, name)]
    return found

  # ---- all of them

  def plan(self, mode):
    """[(side, site, nth)] in an order of chance: the first call of each site, and the last."""
    found = self.rehearse(mode)
    self.name_places([site for sites in found.values() for site in sites])
    planned = []
    for side in self.args.sides:
      for site in found[side]:
        planned += [(side, site, nth) for nth in sorted({1, site.count})]
      say(f'{mode}, {side}: {len(found[side])} sites, {sum(s.count for s in found[side])} calls')
    if self.args.site:
      return self.args.times * [
        (side, site, nth) for side, site, nth in planned
        if f'{site.hash:x}' == self.args.site or self.args.site in self.places[site.hash]]
    self.random.shuffle(planned)
    return planned[:self.args.sites] if self.args.sites else planned

  def run_failures(self):
    self.start_job()
    end = time.monotonic() + (self.args.seconds or 10 ** 9)
    for mode in self.modes:
      planned = self.plan(mode)
      for number, (side, site, nth) in enumerate(planned):
        if time.monotonic() > end:
          say(f'{mode}: {len(planned) - number} of {len(planned)} not tried, as the time is over')
          break
        result = self.fail_once(side, mode, site, nth)
        self.results.append(result)
        self.tell(result, number + 1, len(planned))
        if result['problems'] or self.job.ended():
          self.job.end()
          time.sleep(2)
          self.start_job()
    self.check_progress()
    self.finish_job()

  def tell(self, result, number, total):
    what = f'{result["side"]} {result["call"]} #{result["nth"]} at {result["place"]}'
    if result['problems'] or self.args.verbose:
      say(f'{number}/{total} {"WRONG" if result["problems"] else "right"}: {what}: {result["outcome"]} '
          f'{result["error"][:160]} (--mode {result["mode"]} --site {result["site"]})')
    for problem in result['problems']:
      print(f'    {problem}', flush=True)
    if number % 25 == 0:
      say(f'{result["mode"]}: {number}/{total}, {self.outcomes()}')

  def outcomes(self):
    counted = collections.Counter(result['outcome'] for result in self.results)
    return ', '.join(f'{number} {outcome}' for outcome, number in sorted(counted.items()))


def main(args):
  say(f'seed {args.seed}')
  failure = None
  with harness.Cluster(args) as cluster:
    failing = Failing(args, cluster)
    before = cluster.snapshot()
    try:
      failing.run_failures()
      left = cluster.leftovers(before, lambda line: RECORD.fullmatch(line) or KEPT.match(line), 15)
      if left:
        raise Failure('left behind:\n' + '\n'.join(left))
    except (Failure, LabError) as error:
      failure = str(error)
      say(f'FAILED: {failure}')
      for node in [cluster.head, *cluster.nodes]:
        print('\n'.join(f'  |{node}| {line}' for line in read(
          os.path.join(cluster.lab.node_dir(node), 'lifeboatd.log'), '').splitlines()[-15:]))
    finally:
      if failing.job is not None:
        failing.job.kill()
      failing.pool.shutdown(wait=False, cancel_futures=True)
  wrong = [result for result in failing.results if result['problems']]
  good = failure is None and not wrong
  say(f'{"ok" if good else "FAILED"}: seed {args.seed}, {len(failing.results)} calls failed: '
      f'{failing.outcomes()}; {len(wrong)} of them with problems')
  if args.json:
    with open(args.json, 'w', encoding='utf-8') as file:
      json.dump({'ok': good, 'failure': failure, 'seed': args.seed, 'results': failing.results}, file, indent=1)
  return 0 if good else 1
