"""`scripts/soak torture` and `scripts/soak kill`: see there."""
import collections
import concurrent.futures
import contextlib
import glob
import json
import os
import random
import re
import signal
import statistics
import subprocess
import time

from benchlib import evidence, harness
from benchlib.harness import ROOT, Failure, Hang, Job, say
from benchlib.soak import LOGS, RECORD, check_daemons, spread
from lablib import cgroup
from lablib.base import LabError, Proc, read

MODES = ('stop-and-copy', 'pre-copy', 'post-copy', 'hybrid')
PAUSE_S = 0.4          # the longest between two migrations
SILENCE_S = 60         # a job that says nothing for so long hangs
SETTLE_S = 30          # until one copy of the container runs, whatever was killed
TWO_LOOKS = 100        # 50 ms apart: as long two may look as if they ran, of which one ends or was only half restored
PF_EXITING = 4
TWO_AT_ONCE = 0.1      # of all migrations: both containers
SAID = re.compile(r'torture rank (\d+) pid \d+: (\d+) s, .* (\d+) wrong')
# A job's record and output, and empty parents of what was there.
KEPT = re.compile(r'nodes\.\w+\.(files: \+ (/var/lib/lifeboat/jobs(/.*)?|/run/lifeboat/(crun|containers))$|'
                  r'cgroups: \+ \w*:containers$)')
# Whose death may cost the container: but only after the commit, and with a word about it.
MAY_COST = ('pager',)
REASON = 'the pager of a container has ended'
REASON_S = 20          # until the daemon has found out, and journald written it down
VICTIMS = ('source-daemon', 'target-daemon', 'source-criu', 'target-criu', 'pager', 'guard')


def known_modes(cluster):
  """Those that `lifeboat migrate --help` names."""
  done = subprocess.run(cluster.command('migrate', '--help'), text=True, capture_output=True,
                        check=False, timeout=20)
  return [mode for mode in MODES if re.search(rf'(?<![\w-]){mode}(?![\w-])', done.stdout)]


def dying(pid):
  """Whether the process has been killed: it runs nothing of its own any more."""
  stat = read(f'/proc/{pid}/stat', '').rpartition(')')[2].split()
  pending = re.search(r'^SigPnd:\t(\w+)\nShdPnd:\t(\w+)', read(f'/proc/{pid}/status', ''), re.M)
  if len(stat) < 7 or not pending:
    return True
  return bool(int(stat[6]) & PF_EXITING or (int(pending[1], 16) | int(pending[2], 16)) & 1 << (signal.SIGKILL - 1))


def running(copies):
  return [copy for copy in copies if copy[3] and not copy[2]]


class Torture:
  """The job, and migrations of it."""

  def __init__(self, args, cluster):
    self.args, self.cluster = args, cluster
    self.random = random.Random(args.seed)
    self.pool = concurrent.futures.ThreadPoolExecutor(2)
    self.modes = args.modes or known_modes(cluster)
    self.job = None
    self.jobs = 0
    self.last = None  # the kill that was made last
    self.reports = []
    self.kills = collections.Counter()
    self.ended_with_reason = []
    self.connections_lost = 0  # to a CRIU that was killed
    self.read = collections.Counter()  # lines of the daemons' logs that are known

  def build_program(self):
    source = os.path.join(ROOT, 'mpi/bench/torture')
    files = sorted(os.path.join(source, f) for f in os.listdir(source) if f.endswith('.c'))
    done = subprocess.run(['gcc', '-std=gnu11', '-O2', '-g', '-Wall', '-Wextra', '-pthread', '-o',
                           os.path.join(self.cluster.work, 'torture'), *files], text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
      raise Failure(f'{source} does not compile:\n{done.stderr}')

  # ---- the job

  def path(self, name):
    return os.path.join(self.cluster.work, name)

  def start_job(self):
    if self.jobs == 0:
      self.build_program()
    for name in ('stop', 'torture.address'):
      if os.path.exists(self.path(name)):
        os.remove(self.path(name))
    self.job = Job(self.cluster, 'torture', {
      'command': ['/work/torture', '--mb', self.args.mb, '--pause-us', str(self.args.pause_us),
                  '--ranks', '2'],
      'containers': 2, 'memory': '1GiB', 'nodes': self.cluster.nodes[:2],
      'mounts': [{'source': self.cluster.work, 'target': '/work'}], 'user': {'uid': 0, 'gid': 0}})
    self.jobs += 1
    ready = lambda: sum(line.endswith(': ready') for line in list(self.job.lines)) == 2
    if not self.job.wait_until(ready, 60, '"ready" of both ranks'):
      raise Failure(f'the job ended at once:\n{self.job.text()}')
    self.check_job()

  def check_job(self):
    lines = list(self.job.lines)
    self.check_wrong()
    if self.job.ended():
      raise Failure(f'the job has ended with status {self.job.exit_code()}:\n' + '\n'.join(lines[-10:]))
    if self.job.silent_for() > SILENCE_S:
      raise Hang(f'the job says nothing for {SILENCE_S} s')

  def check_progress(self, seconds=30):
    """Both ranks say something new."""
    def told():
      self.check_wrong()
      found = [SAID.search(line) for line in list(self.job.lines)[before:]]
      return {match.group(1) for match in found if match} == {'0', '1'}
    before = len(self.job.lines)
    if not self.job.wait_until(told, seconds, 'progress of both ranks'):
      self.check_job()

  def check_wrong(self, peer_ended=False):
    """`peer_ended`: one container was ended with a reason, so the other has lost its connection."""
    found = [line for line in list(self.job.lines) if 'WRONG' in line and
             not (peer_ended and 'a connection has ended' in line)]
    if found:
      raise Failure('wrong:\n' + '\n'.join(found[:20]))

  def finish_job(self):
    with open(self.path('stop'), 'w', encoding='ascii'):
      pass
    code = self.job.wait(120)
    self.check_wrong()
    good = sum(line.startswith('torture rank') and line.endswith(': ok') for line in self.job.lines)
    if code != 0 or good != 2:
      raise Failure(f'the job ended with status {code}, {good} of 2 ranks say ok:\n' +
                    '\n'.join(self.job.lines[-10:]))

  # ---- migrations

  def choose(self, container):
    source = self.cluster.where().get(container)
    if source is None:
      raise Failure(f'{container} runs nowhere: {self.cluster.ask("ps")}')
    target = self.random.choice([n for n in self.cluster.nodes if n != source])
    return source, target, self.random.choice(self.cluster.fabrics), self.random.choice(self.modes)

  def move(self, container, must=True):
    source, target, fabric, mode = self.choose(container)
    report = self.migrate(container, target, fabric, mode)
    if must and report.get('outcome') != 'committed':
      raise Failure(f'migration failed: {json.dumps(report)}')
    return source, report

  def migrate(self, container, target, fabric, mode):
    """Waits while the memory of the last migration is still being put in place."""
    end = time.monotonic() + SETTLE_S
    while True:
      report = self.cluster.migrate(container, target, fabric, mode=mode)
      text = json.dumps(report)
      if 'still being' not in text or time.monotonic() > end:
        # What a daemon that was killed meanwhile knows from its journal has no figures.
        if report.get('outcome') == 'committed' and 'total_ms' in report:
          self.reports.append(report)
        return report
      time.sleep(0.05)

  def run(self):
    self.start_job()
    began = time.monotonic()
    while len(self.reports) < self.args.migrations:
      if self.args.seconds and time.monotonic() - began > self.args.seconds:
        break
      if self.random.random() < TWO_AT_ONCE:
        tasks = [self.pool.submit(self.move, name) for name in self.job.containers]
        for task in tasks:
          task.result()
      else:
        self.move(self.job.containers[0 if self.random.random() < 0.7 else 1])
      self.check_job()
      if len(self.reports) % 10 == 0:
        self.tell(began)
      time.sleep(self.random.uniform(0, PAUSE_S))
    self.check_progress()
    self.finish_job()

  def tell(self, began):
    rate = len(self.reports) / (time.monotonic() - began) * 60
    told = [SAID.search(line).group(0) for line in self.job.lines[-8:] if SAID.search(line)]
    say(f'{len(self.reports)}/{self.args.migrations} migrations, {rate:.0f}/min; ' +
        '; '.join(told[-2:]))

  # ---- what dies

  def processes(self, parent, name):
    """Children of a process that have that name."""
    pids = [int(pid) for path in glob.glob(f'/proc/{parent}/task/*/children') for pid in read(path, '').split()]
    return [pid for pid in pids if read(f'/proc/{pid}/comm', '').strip() == name]

  def victim_pids(self, victim, source, target):
    node = self.cluster.lab.daemon(source if 'source' in victim else target)
    if victim.endswith('daemon'):
      daemon = node.proc()
      return [daemon.pid] if daemon else []
    starter = node.starter()
    if starter is None:
      return []
    if victim.endswith('criu'):
      return self.processes(starter.pid, 'criu')
    pagers = self.processes(starter.pid, 'lifeboat-pager')
    if victim == 'pager':
      return pagers
    return [pid for pager in pagers for pid in self.processes(pager, 'lifeboat-guard')]

  def strike(self, victim, source, target, migration, delay):
    """kill -9 of the victim, `delay` after the start or when it appears; False: it never did."""
    time.sleep(delay)
    while True:
      over = migration.done()
      pids = self.victim_pids(victim, source, target)
      if pids:
        break
      if over:
        return False
      time.sleep(0.002)
    for proc in [Proc(pid) for pid in pids]:
      proc.kill(signal.SIGKILL)
      proc.wait(10)  # it takes its memory down first; until then it is still there
    if victim.endswith('daemon'):
      time.sleep(self.random.uniform(0, 0.5))
      daemon = self.cluster.lab.daemon(source if victim.startswith('source') else target)
      daemon.start()
      daemon.wait_ready()
    return True

  def copies(self, container):
    """[(node, processes, frozen, processes that are not dying)]: not asked from the daemons."""
    found = []
    for node in self.cluster.nodes:
      for path in cgroup.trees(f'{self.cluster.lab.containers_of(node)}/{container}'):
        tasks = read(f'{path}/cgroup.procs', '').split()
        if tasks:
          found.append((node, len(tasks), read(f'{path}/cgroup.freeze', '').strip() == '1',
                        sum(not dying(pid) for pid in tasks)))
    return found

  def not_two(self, container):
    """Its copies, of which one at most runs."""
    for _ in range(TWO_LOOKS):
      copies = self.copies(container)
      if len(running(copies)) < 2:
        return copies
      time.sleep(0.05)
    raise Failure(f'two running copies of {container}: {copies}')

  def settled(self, container):
    """Waits for one running copy; the node, or None when the job has ended."""
    end = time.monotonic() + SETTLE_S
    while True:
      copies = self.not_two(container)
      if self.job.ended():
        return None
      told = self.cluster.ask('ps')
      entries = [c for c in told.get('containers', ()) if c['id'] == container]
      if (len(entries) == 1 and entries[0]['state'] == 'running' and len(copies) == 1
          and copies[0][0] == entries[0]['node'] and not copies[0][2] and copies[0][3] == copies[0][1]):
        return entries[0]['node']
      if time.monotonic() > end:
        raise Failure(f'not one running copy of {container}: ps says {entries or told}, cgroups {copies}')
      time.sleep(0.05)

  def new_log_lines(self):
    """Of all daemons since the last call."""
    out = []
    for node in [self.cluster.head, *self.cluster.nodes]:
      lines = self.cluster.daemon_log(node)
      out += [f'{node}: {line}' for line in lines[self.read[node]:]]
      self.read[node] = len(lines)
    return out

  def kill_once(self, victim):
    container = self.job.containers[0 if self.random.random() < 0.7 else 1]
    source, target, fabric, mode = self.choose(container)
    if victim in ('pager', 'guard') and mode == 'stop-and-copy':
      mode = 'pre-copy'
    typical = [r['total_ms'] for r in self.reports if r['mode'] == mode and r['fabric'] == fabric]
    longest = (statistics.median(typical) if typical else 1500) / 1000 * 1.2
    delay = self.random.uniform(0, longest)
    self.new_log_lines()
    what = (f'{victim} {delay * 1000:.0f} ms after the start of {mode} of {container}, {source} to '
            f'{target} over {fabric}')
    self.last = what
    migration = self.pool.submit(self.try_migrate, container, target, fabric, mode)
    struck = self.strike(victim, source, target, migration, delay)
    report = migration.result()
    node = self.settled(container)
    outcome = report.get('outcome') or json.dumps(report.get('error', report))[:160]
    if not struck:
      return False
    self.kills[f'{victim}, {mode}'] += 1
    say(f'kill {sum(self.kills.values())}: {what}: {outcome}; ' +
        (f'it runs on {node}' if node else 'it has ended'))
    if node is None:
      self.check_end(victim)
      return True
    try:
      self.check_progress()
    except Failure:
      if victim in MAY_COST:
        with contextlib.suppress(Hang):   # the other rank may have told of it first
          self.job.wait(10)
        if self.job.ended():
          self.check_end(victim)
          return True
      if not self.connection_lost_to(victim):
        raise
      self.connections_lost += 1
      say('it has lost a connection that CRIU was at: known, see "When something fails" in README.md')
      self.job.end()
      time.sleep(2)
      self.start_job()
      return True
    again = None
    for _ in range(20):  # a page may still be missing, and what was interrupted be cleaned away
      _, target, fabric, mode = self.choose(container)
      again = self.migrate(container, target, fabric, mode)
      if again.get('outcome') == 'committed':
        break
      time.sleep(0.2)
      if 'error' in again and again.get('outcome') is None:
        continue
      raise Failure(f'after it a migration fails: {json.dumps(again)}')
    if again.get('outcome') != 'committed':
      raise Failure(f'after it no migration works: {json.dumps(again)}')
    self.check_job()
    return True

  def connection_lost_to(self, victim):
    """What README.md says of a CRIU that is killed in the middle of a dump: a task that uses a connection
    before its cgroup is frozen again gets EPERM. Nothing else may be wrong."""
    wrong = [line for line in self.job.lines if 'WRONG' in line]
    return (victim == 'source-criu' and all('a connection has ended' in line for line in wrong) and
            any('Operation not permitted' in line for line in wrong))

  def try_migrate(self, *args):
    try:
      return self.migrate(*args)
    except Failure as failure:  # the daemon that was asked has died
      return {'error': str(failure)}

  def check_end(self, victim):
    """The job has ended: only where it may, and with a word."""
    reasons, end = [], time.monotonic() + REASON_S
    while not reasons and time.monotonic() < end:
      time.sleep(0.2)
      reasons = [line for line in self.new_log_lines() if REASON in line or 'the container is ended' in line]
    self.check_wrong(peer_ended=victim in MAY_COST and bool(reasons))
    if victim not in MAY_COST or not reasons:
      raise Failure(f'the job has ended with status {self.job.exit_code()}' +
                    ('' if reasons else ', and nothing says why') + ':\n' +
                    '\n'.join(self.job.lines[-6:]))
    self.ended_with_reason.append(reasons[0])
    time.sleep(2)
    self.start_job()

  def run_kills(self):
    self.start_job()
    began = time.monotonic()
    order = []
    while sum(self.kills.values()) < self.args.kills:
      if self.args.seconds and time.monotonic() - began > self.args.seconds:
        break
      if not order:
        order = list(self.args.victims)
        self.random.shuffle(order)
      self.kill_once(order.pop())
    self.check_progress()
    self.finish_job()


def by_mode(reports):
  out = {}
  for mode in sorted({r['mode'] for r in reports}):
    these = [r for r in reports if r['mode'] == mode]
    out[mode] = {'migrations': len(these), 'downtime_ms': spread([r['downtime_ms'] for r in these]),
                 'total_ms': spread([r['total_ms'] for r in these])}
  return out


def through_images(reports):
  """Migrations that began in one mode and had to be repeated through CRIU's images."""
  return sum('moved through criu' in ' '.join(r['warnings']) for r in reports)


def tracked_shared(reports):
  """Migrations in whose freeze of shared memory only that was looked at which was known to be written."""
  return sum(r['layer'].get('bytes_tracked', 0) > 0 for r in reports)


def summary(args, torture, failure):
  out = {'ok': failure is None, 'failure': failure, 'what': args.what, 'seed': args.seed,
         'migrations': len(torture.reports), 'jobs': torture.jobs, 'modes': by_mode(torture.reports),
         'through_images': through_images(torture.reports),
         'shared_memory_tracked': tracked_shared(torture.reports), 'kills': dict(torture.kills),
         'ended_with_reason': torture.ended_with_reason, 'connections_lost': torture.connections_lost}
  say(('ok' if failure is None else 'FAILED') + f': seed {args.seed}, {len(torture.reports)} migrations'
      f' ({out["through_images"]} of them repeated through images, {out["shared_memory_tracked"]} with tracked shared '
      'memory)'
      + (f', {sum(torture.kills.values())} kills, after {len(torture.ended_with_reason)} of them the '
         f'container was ended with a reason, after {torture.connections_lost} a connection was lost to a killed '
         'CRIU' if args.what == 'kill' else ''))
  for mode, found in out['modes'].items():
    times = found['downtime_ms']
    say(f'  {mode:14} {found["migrations"]:4} migrations, downtime {times["min"]:.0f} / '
        f'{times["median"]:.0f} / {times["max"]:.0f} ms (least, median, most)')
  return out


def tell_failure(args, cluster, torture, failure):
  say(f'FAILED: {failure}')
  say(f'again: scripts/soak {args.what} --seed {args.seed}'
      + (f'; it was: kill of {torture.last}' if torture.last else ''))
  if torture.reports:
    say(f'last migration: {json.dumps(torture.reports[-1])}')
  for node in [cluster.head, *cluster.nodes]:
    for line in cluster.daemon_log(node)[-20:]:
      print(f'  |{node}| {line}')
  logs = os.path.join(LOGS, args.name)
  evidence.collect(cluster, torture.job, logs, failure)
  say(f'evidence is in {os.path.relpath(logs, ROOT)}')


def main(args):
  say(f'seed {args.seed}')
  failure = None
  with harness.Cluster(args) as cluster:
    before, daemons = cluster.snapshot(), cluster.daemons()
    torture = Torture(args, cluster)
    try:
      (torture.run if args.what == 'torture' else torture.run_kills)()
      left = cluster.leftovers(before, lambda line: RECORD.fullmatch(line) or KEPT.match(line), 15)
      if left:
        raise Failure('left behind:\n' + '\n'.join(left))
      if args.what == 'torture':
        check_daemons(daemons, cluster.daemons())
    except (Failure, LabError) as error:
      failure = str(error)
      tell_failure(args, cluster, torture, failure)
    finally:
      if torture.job is not None:
        torture.job.kill()
      torture.pool.shutdown(wait=False, cancel_futures=True)
    out = summary(args, torture, failure)
  if args.json:
    with open(args.json, 'w', encoding='utf-8') as file:
      json.dump(out, file, indent=1)
  return 0 if failure is None else 1
