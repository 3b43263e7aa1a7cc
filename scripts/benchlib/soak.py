"""`scripts/soak`: see there."""
import collections
import concurrent.futures
import json
import os
import random
import re
import statistics
import time

from benchlib import evidence, harness
from benchlib.harness import MB, ROOT, Failure, Job, say
from lablib.base import LabError
from lablib.hpl import hpl_input, hpl_residuals

LOGS = os.path.join(ROOT, 'build', 'soak-logs')
KINDS = ('one', 'pause', 'again', 'apart', 'together')
ROUND = 10             # steps of one kind before the next
SILENCE_S = 120        # a job that says nothing for so long, and then again left alone, hangs
LATE_S = 10            # a migration may fail if its job ends within this
GONE = 'a connection is gone'
GONE_S = 5             # such a warning counts unless the job has ended after this
FILES_MORE = 8         # open files a daemon may hold beyond those at the start
# What a daemon keeps on purpose: where images are put, and how each arrival ended.
RECORD = re.compile(r'nodes\.\w+\.files: \+ (/run/lifeboat/images|/var/lib/lifeboat/registry\.db-wal|'
                    r'/(run|var/lib)/lifeboat/outcomes(/[\w-]+)?)')


class Soak:
  def __init__(self, args, cluster):
    self.args, self.cluster = args, cluster
    self.random = random.Random(args.seed)
    self.pool = concurrent.futures.ThreadPoolExecutor(2)
    self.job = None
    self.digits = None
    self.reports = []
    self.kinds = collections.Counter()
    self.late = []        # what failed because its job ended
    self.jobs, self.problems, self.pauses = 0, 0, 0
    self.read = collections.Counter()      # lines of the daemons' logs
    self.messages = collections.Counter()  # warnings and errors in them
    self.gone = []        # [(when seen, line)]

  # ---- jobs

  def start_job(self):
    with open(os.path.join(self.cluster.work, 'HPL.dat'), 'w', encoding='ascii') as file:
      file.write(hpl_input(self.args.size, self.args.problems, 2, 2))
    self.job = Job(self.cluster, 'hpl', {
      'command': ['/usr/local/bin/xhpl', '/work/HPL.dat'], 'containers': 4, 'memory': '1GiB',
      'mounts': [{'source': self.cluster.work, 'target': '/work'}], 'user': {'uid': 0, 'gid': 0}})
    self.job.wait_running()
    return self.job

  def check_progress(self):
    """Ranks that are moved all the time may be slow: only one that is left alone can hang."""
    if self.job.ended() or self.job.silent_for() < SILENCE_S:
      return
    heard = self.job.said
    say(f'job hpl has said nothing for {SILENCE_S} s; it is left alone to see whether it hangs')
    self.pauses += 1
    if not self.job.wait_until(lambda: self.job.said > heard, SILENCE_S, 'output, left alone,'):
      return  # it has ended

  def finish_job(self):
    """Waits for the end of the job and checks its results."""
    while not self.job.ended():
      self.check_progress()
      time.sleep(0.1)
    code = self.job.exit_code()
    found = hpl_residuals(self.job.text())
    digits, verdicts = [d for d, _ in found], [v for _, v in found]
    right = self.digits is None or set(digits) == {self.digits}
    if code != 0 or verdicts != ['PASSED'] * self.args.problems or not right:
      raise Failure(f'job hpl ended with status {code} and the residuals {found}; '
                    f'expected {self.args.problems} times {self.digits or "any digits"} PASSED')
    self.jobs += 1
    self.problems += len(found)
    return digits

  # ---- migrations

  def choose(self, kind, last):
    """[(container, target)] to be moved at once."""
    where = self.cluster.where()
    names = sorted(where)
    if len(names) < len(self.job.containers):
      return []
    others = lambda name: [n for n in self.cluster.nodes if n != where[name]]
    if kind == 'again' and last in where:
      return [(last, self.random.choice(others(last)))]
    if kind == 'together':
      held = list(where.values())
      node = self.random.choice([n for n in self.cluster.nodes if held.count(n) > 1])
      pair = self.random.sample([n for n in names if where[n] == node], 2)
      target = self.random.choice(others(pair[0]))
      return [(name, target) for name in pair]
    if kind == 'apart':
      pairs = [((a, to_a), (b, to_b)) for a in names for b in names if where[a] != where[b]
               for to_a in others(a) for to_b in others(b) if to_a != to_b]
      if pairs:
        return list(self.random.choice(pairs))
    name = self.random.choice(names)
    return [(name, self.random.choice(others(name)))]

  def move(self, moves, kind):
    """All at once, each over a fabric of its own choice."""
    tasks = [self.pool.submit(self.cluster.migrate, name, target,
                              self.random.choice(self.cluster.fabrics)) for name, target in moves]
    for task in tasks:
      report = task.result()
      if report.get('outcome') == 'committed':
        report['kind'] = kind
        self.reports.append(report)
        self.kinds[kind] += 1
        if len(self.reports) % 10 == 0:
          self.tell_progress()
        continue
      end = time.monotonic() + LATE_S
      while not self.job.ended() and time.monotonic() < end:
        time.sleep(0.1)
      if not self.job.ended():
        raise Failure(f'migration failed: {json.dumps(report)}')
      self.late.append(report.get('error') or report)

  def tell_progress(self):
    done, wanted = len(self.reports), self.args.migrations
    rate = done / (time.monotonic() - self.began)
    left = (wanted - done) / rate
    if self.until is not None:
      left = min(left, self.until - time.monotonic())
    recent = [r['downtime_ms'] for r in self.reports[-10:]]
    say(f'{done}/{wanted} migrations, {rate * 60:.1f}/min, jobs {self.jobs}, downtime of the last '
        f'10: median {statistics.median(recent):.0f} ms, most {max(recent):.0f} ms; '
        f'to go: {max(left, 0) / 60:.1f} min')

  def watch_logs(self):
    """Collects warnings; a lost connection is a failure unless the job was just ending."""
    for node in [self.cluster.head, *self.cluster.nodes]:
      lines = self.cluster.daemon_log(node)
      for line in lines[self.read[node]:]:
        if ' warn ' in line or ' error ' in line:
          words = [w for w in line.split() if '=' not in w]
          self.messages[' '.join(words[1:])] += 1
          if GONE in line:
            self.gone.append((time.monotonic(), f'{node}: {line}'))
      self.read[node] = len(lines)
    if self.job.ended():
      self.gone.clear()
    for seen, line in self.gone:
      if time.monotonic() - seen > GONE_S:
        raise Failure(f'lost connection: {line}')

  def over(self):
    late = self.until is not None and time.monotonic() > self.until
    return late or len(self.reports) >= self.args.migrations

  def steps(self):
    """The sequence of kinds, endless."""
    while True:
      order = list(KINDS)
      self.random.shuffle(order)
      for kind in order:
        for _ in range(ROUND):
          yield kind

  def run(self):
    self.began = time.monotonic()
    self.until = self.began + self.args.minutes * 60 if self.args.minutes else None
    self.start_job()
    last = None
    for kind in self.steps():
      if self.over():
        break
      if self.job.ended():
        self.finish_job()
        self.start_job()
      self.check_progress()
      self.watch_logs()
      moves = self.choose(kind, last)
      if moves:
        last = moves[0][0]
        self.move(moves, kind)
      if kind == 'pause':
        time.sleep(self.random.uniform(0, 2))
    self.seconds = time.monotonic() - self.began
    self.finish_job()

  # ---- a rank that stands still

  def freeze(self, then_migrate):
    self.start_job()
    self.job.wait_until(lambda: hpl_residuals(self.job.text()), 120, 'first residual')
    victim = self.job.containers[0]
    node = self.cluster.where()[victim]
    control = os.path.join(self.cluster.cgroup_of(victim, node), 'cgroup.freeze')
    say(f'{victim} on {node} stands still for {self.args.freeze:.0f} s')
    with open(control, 'w', encoding='ascii') as file:
      file.write('1')
    time.sleep(self.args.freeze)
    if self.job.ended():
      raise Failure('the job ended while one of its ranks stood still')
    with open(control, 'w', encoding='ascii') as file:
      file.write('0')
    self.job.said = time.monotonic()
    if then_migrate:
      target = next(n for n in self.cluster.nodes if n != node)
      self.move([(victim, target)], 'freeze')
    self.finish_job()
    say('the job ended well' + (' after a migration' if then_migrate else ''))


def spread(values):
  if not values:
    return None
  ordered = sorted(values)
  return {'median': round(statistics.median(ordered), 1), 'min': round(ordered[0], 1),
          'p95': round(ordered[int(0.95 * (len(ordered) - 1))], 1), 'max': round(ordered[-1], 1)}


def by_fabric(soak):
  out = {}
  for fabric in soak.cluster.fabrics:
    reports = [r for r in soak.reports if r['fabric'] == fabric]
    out[fabric] = {'migrations': len(reports),
                   'downtime_ms': spread([r['downtime_ms'] for r in reports]),
                   'total_ms': spread([r['total_ms'] for r in reports]),
                   'resident_mb': spread([r['resident_bytes'] / MB for r in reports]),
                   'parts_ms': {p: spread([r['downtime_parts_ms'][p] for r in reports])
                                for p in harness.PARTS}}
  return out


def check_daemons(before, after):
  for node, old in before.items():
    new = after[node]
    if new['pid'] != old['pid']:
      raise Failure(f'lifeboatd of {node} is another process than at the start')
    if new['files'] > old['files'] + FILES_MORE:
      raise Failure(f'lifeboatd of {node} holds {new["files"]} files open; {old["files"]} at first')


def run(args, cluster, soak):
  say(f'reference: HPL N={args.size} without migration')
  soak.start_job()
  digits = soak.finish_job()
  took = (time.monotonic() - soak.job.started) / args.problems
  say(f'residuals {" ".join(digits)}; one problem takes {took:.1f} s')
  # The order in which HPL adds up depends on when messages arrive; systems of N=4000 and more have
  # given the same digits all the same, smaller ones have not.
  if len(set(digits)) == 1:
    soak.digits = digits[0]
  else:
    say('the digits differ without any migration: only PASSED is checked')
  time.sleep(1)
  before, daemons = cluster.snapshot(), cluster.daemons()
  if args.freeze:
    soak.freeze(False)
    soak.freeze(True)
  else:
    soak.run()
  left = cluster.leftovers(before, lambda line: RECORD.fullmatch(line))
  if left:
    raise Failure('left behind:\n' + '\n'.join(left))
  now = cluster.daemons()
  check_daemons(daemons, now)
  return {'daemons': {node: {'before': daemons[node], 'after': now[node]} for node in now}}


def summary(args, soak, result, failure):
  out = {'ok': failure is None, 'failure': failure, 'seed': args.seed, 'size': args.size,
         'migrations': len(soak.reports), 'kinds': dict(soak.kinds), 'jobs': soak.jobs,
         'residuals': soak.problems, 'digits': soak.digits, 'left_alone': soak.pauses,
         'ended_meanwhile': soak.late,
         'warnings': dict(soak.messages), 'migration_warnings': sum(len(r['warnings'])
                                                                    for r in soak.reports),
         'fabrics': by_fabric(soak), **result}
  parts = [f'{name} {f["migrations"]} (downtime median {f["downtime_ms"]["median"]:.0f} ms, '
           f'{f["downtime_ms"]["min"]:.0f}-{f["downtime_ms"]["max"]:.0f})'
           for name, f in out['fabrics'].items() if f['migrations']]
  say(f'{"ok" if failure is None else "FAILED"}: {len(soak.reports)} migrations, '
      f'{", ".join(parts)}; {soak.jobs} jobs, {soak.problems} residuals PASSED; '
      f'{len(soak.late)} migrations cut short by the end of their job')
  return out


def main(args):
  failure, result = None, {}
  with harness.Cluster(args) as cluster:
    soak = Soak(args, cluster)
    try:
      result = run(args, cluster, soak)
      soak.watch_logs()
    except (Failure, LabError) as error:
      failure = str(error)
      say(f'FAILED: {failure}')
      logs = os.path.join(LOGS, args.name)
      evidence.collect(cluster, soak.job, logs, failure)
      say(f'evidence is in {os.path.relpath(logs, ROOT)}')
    finally:
      if soak.job is not None:
        soak.job.kill()
      soak.pool.shutdown(wait=False, cancel_futures=True)
    out = summary(args, soak, result, failure)
  if args.json:
    with open(args.json, 'w', encoding='utf-8') as file:
      json.dump(out, file, indent=1)
  return 0 if failure is None else 1
