"""`scripts/soak faults`: see there. One fault in each round of migrations of HPL's ranks."""
import collections
import contextlib
import http.client
import json
import os
import random
import re
import threading
import time

from benchlib import evidence, fault_kinds, fault_table, harness
from benchlib.failing import left_in_run_dir
from benchlib.harness import ROOT, Failure, Job, say
from benchlib.soak import LOGS, RECORD
from benchlib.torture import KEPT, MAY_COST, REASON, Torture
from lablib import cgroup
from lablib.base import LabError, read

LEASE = 3
LAB_YAML = '''
fabrics:
  - {name: 1g, subnet: 10.1.0.0/16, rate: 1Gbit, burst: 512kb}
  - {name: 10g, subnet: 10.2.0.0/16, rate: 10Gbit, burst: 4mb}
default_fabric: 10g
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB, slots: 8}
  - {name: n2, memory: 8GiB, slots: 8}
  - {name: n3, memory: 8GiB, slots: 8}
lifeboat:
  timeouts: {connect: 1s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 3s}
  registry: {timeout: 1s, lease: LEASEs}
  health: {probation: 0s}
  evacuation: {automatic: false}
'''.replace('LEASE', str(LEASE))
# What may be waited for, in order: as the source's journal calls them, but `staged` and `taken`, which are
# what the target's calls staged and committed, and `over`, after which nothing is going on.
BOUNDARIES = ('connect', 'pre-copy', 'layer', 'prepare', 'freeze', 'dump', 'transfer', 'restore', 'staged',
              'commit', 'taken', 'committed')
RANDOM = 'random'
AT_ONCE = (1, 2, 2, 3, 3)   # containers that are moved at once
ROUND = 12                  # steps before the jobs are ended and looked at
SETTLE_S = 60
AGAIN_S = 30                # until the next migration must have worked
ALIVE_S = 60                # until a job must have said something new
TIDY_S = 50                 # what could not be removed at once is looked for every 30 s
TWO_S = 0.1                 # two copies that run, if only one is just ending
FILES_MORE = 12
MILD = ('slow', 'lossy', 'full')   # these last until the migrations are over
MILD_S = 12
KILLED_CRIU = ('Operation not permitted', 'SIGNAL: 5', 'Trace/breakpoint trap', 'signal 5')


class Move:
  """One migration of one step."""

  def __init__(self, migration, container, source, target, mode):
    self.id, self.container, self.source, self.target, self.mode = migration, container, source, target, mode
    self.job = container.rpartition('-')[0]
    self.phase = 'over'       # when the fault struck
    self.report = {}
    self.on = None            # where it runs on, or why nowhere
    self.seen = []            # [(time, nodes where it runs)]: changes
    self.two = 0.0            # how long two copies ran, s
    self.settled = None


class Journals:
  """Which phase migrations are in: what the daemons of their source and target have written."""

  def __init__(self, cluster, nodes):
    self.paths = {node: os.path.join(fault_kinds.state_directory(cluster.lab, node), 'migrations.jsonl')
                  for node in nodes}
    self.files = {}
    self.open()
    for file in self.files.values():
      file.seek(0, os.SEEK_END)
    self.phases = collections.defaultdict(str)

  def open(self):
    for node, path in self.paths.items():
      if node not in self.files and os.path.exists(path):
        self.files[node] = open(path, encoding='utf-8', errors='replace')

  def read(self):
    self.open()
    for node, file in self.files.items():
      for line in file:
        with contextlib.suppress(ValueError):
          entry = json.loads(line)
          self.note(entry, entry['source'] == node)

  def note(self, entry, at_source):
    phase = entry['phase']
    if not at_source:
      phase = {'staged': 'staged', 'committed': 'taken'}.get(phase, '')
    elif 'report' in entry:
      phase = 'over'
    now = self.phases[entry['id']]
    if phase and self.rank(phase) >= self.rank(now):
      self.phases[entry['id']] = phase

  @staticmethod
  def rank(phase):
    return BOUNDARIES.index(phase) if phase in BOUNDARIES else 99 if phase == 'over' else -1

  def reached(self, migration, phase):
    return self.rank(self.phases[migration]) >= self.rank(phase)

  def close(self):
    for file in self.files.values():
      file.close()


class FaultLab(harness.Cluster):
  """Its nodes' disks are small, what it waits for is short."""

  def __enter__(self):
    self.args.file = os.path.join(self.work, 'lab.yaml')
    with open(self.args.file, 'w', encoding='ascii') as file:
      file.write(LAB_YAML)
    super().__enter__()
    try:
      fault_kinds.small_file_systems(self.lab, self.nodes)
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_):
    if not self.args.keep:
      fault_kinds.remove_file_systems(self.lab, self.nodes)
    super().__exit__()


class Faults(Torture):

  def __init__(self, args):
    args.modes = args.modes or ['pre-copy']
    super().__init__(args, None)
    self.all_jobs = {}        # name: Job
    self.digits = None
    self.results = []         # one per migration, see fault_table.py
    self.problems = []
    self.ended_jobs, self.residuals, self.again_done = 0, 0, 0
    self.two = cgroup.hierarchies()[0]
    self.began = time.monotonic()
    self.number = args.first if args.step is None else args.step

  # ---- the jobs

  def start_jobs(self):
    with open(self.path('HPL.dat'), 'w', encoding='ascii') as file:
      file.write(harness.hpl_input(self.args.size, 1, 1, 2))
    for number in range(self.args.jobs):
      name = f'hpl{number}'
      if name in self.all_jobs:
        continue
      with contextlib.suppress(FileNotFoundError):
        os.remove(self.path(f'stop-{name}'))
      # Some files for the writable layer, too.
      command = (f'dd if=/dev/urandom of=/var/data bs=64k count=32 2>/dev/null; '
                 f'exec /usr/local/bin/xhpl --until /work/stop-{name} /work/HPL.dat')
      self.all_jobs[name] = Job(self.cluster, name, {
        'command': ['/bin/sh', '-c', command], 'containers': 2, 'memory': '256MiB', 'root': 'overlay',
        'writable': '64MiB', 'mounts': [{'source': self.cluster.work, 'target': '/work'}],
        'user': {'uid': 0, 'gid': 0}})
    for job in self.all_jobs.values():
      job.wait_running()
      job.wait_until(lambda job=job: harness.hpl_residuals(job.text()), ALIVE_S, 'residual')
      for container, node in self.cluster.where().items():
        for pid in self.cluster.pids_of(container, node):
          with contextlib.suppress(ProcessLookupError):  # the daemons go first: there are two processors
            os.setpriority(os.PRIO_PROCESS, pid, 19)

  def check_digits(self, job):
    found = harness.hpl_residuals(job.text())
    self.digits = self.digits or (found[0][0] if found else None)
    wrong = [item for item in found if item != (self.digits, 'PASSED')]
    if wrong:
      raise Failure(f'job {job.name}: residuals {wrong[:5]}, expected {self.digits} PASSED')
    self.residuals += len(found)

  def end_jobs(self):
    """All of them, well."""
    for name in self.all_jobs:
      with open(self.path(f'stop-{name}'), 'w', encoding='ascii'):
        pass
    for name, job in list(self.all_jobs.items()):
      code = job.wait(120)
      self.check_digits(job)
      if code != 0:
        raise Failure(f'job {name} ended with status {code}:\n' + '\n'.join(job.lines[-8:]))
      self.ended_jobs += 1
      del self.all_jobs[name]

  # ---- asking

  def api(self, method, path, body=None, node=None):
    try:
      return self.cluster.api(method, path, body, node or self.cluster.head)
    except (OSError, ValueError, LabError, http.client.HTTPException) as error:
      return {'error': str(error) or type(error).__name__}

  def report_of(self, move):
    """From its source, or from its target if that cannot say."""
    for node in (move.source, move.target):
      if self.cluster.lab.init(node) is not None:
        report = self.api('GET', f'/v1/migrations/{move.id}', node=node)
        if report.get('outcome') in ('committed', 'aborted'):
          return report
    return None

  def entries(self):
    found = collections.defaultdict(list)
    for entry in self.api('GET', '/v1/containers').get('containers', []):
      found[entry['id']].append(entry)
    return found

  def runs_on(self, container):
    """Nodes where a process of it runs, not asked from the daemons. Not CRIU, which waits in its cgroup for
    the images, nor what CRIU holds there."""
    nodes = []
    for node in self.cluster.nodes:
      path = f'{self.two}/{cgroup.relative(self.cluster.lab.name, node)}/containers/{container}'
      pids = read(f'{path}/cgroup.procs', '').split()
      if pids and read(f'{path}/cgroup.freeze', '').strip() != '1' and any(map(self.runs, pids)):
        nodes.append(node)
    return tuple(nodes)

  @staticmethod
  def runs(pid):
    try:
      if os.path.basename(os.readlink(f'/proc/{pid}/exe')) == 'criu':
        return False
    except OSError:
      return False
    return read(f'/proc/{pid}/stat', ') X').rpartition(')')[2].split()[0] not in 'tTZX'

  def watch(self, moves, over):
    """Notes where they run, until `over` is set."""
    last = time.monotonic()
    while not over.wait(0.008):
      for move in moves:
        now = self.runs_on(move.container)
        if len(now) > 1:
          move.two += time.monotonic() - last
        if not move.seen or move.seen[-1][1] != now:
          move.seen.append((time.monotonic(), now))
      last = time.monotonic()

  # ---- one step

  def plan(self, step):
    """(fault, boundary, what else is random in this step)"""
    known = [(fault, boundary) for fault in self.args.faults for boundary in (*BOUNDARIES, RANDOM, RANDOM)]
    random.Random(f'{self.args.seed} {step // len(known)}').shuffle(known)
    return (*known[step % len(known)], random.Random(f'{self.args.seed}:{step}'))

  def begin(self, rng):
    """Migrations from one node to one other."""
    where = {name: node for name, node in sorted(self.cluster.where().items())
             if name.rpartition('-')[0] in self.all_jobs}
    if not where:
      raise Failure(f'no container runs: {self.cluster.ask("ps")}')
    source = rng.choice(sorted(set(where.values())))
    target = rng.choice([node for node in self.cluster.nodes if node != source])
    fabric, mode = rng.choice(self.cluster.fabrics), rng.choice(self.modes)
    here = [name for name, node in where.items() if node == source]
    chosen = rng.sample(here, min(rng.choice(AT_ONCE), len(here)))
    return source, target, fabric, mode, chosen

  def order(self, container, source, target, fabric, mode):
    """Its Move. It is refused while the memory of its last one is still being put in place."""
    end = time.monotonic() + AGAIN_S
    while True:
      answer = self.api('POST', f'/v1/containers/{container}/migrate',
                        {'to': target, 'fabric': fabric, 'mode': mode}, source)
      if 'id' in answer:
        return Move(answer['id'], container, source, target, mode)
      if time.monotonic() > end:
        raise Failure(f'{container} cannot be moved from {source} to {target}: {json.dumps(answer)[:300]}')
      time.sleep(0.1)

  def step(self):
    fault, boundary, rng = self.plan(self.number)
    source, target, fabric, mode, chosen = self.begin(rng)
    self.last = f'{fault} at {boundary}, {mode} of {", ".join(chosen)}, {source} to {target} over {fabric}'
    self.new_log_lines()
    journals = Journals(self.cluster, (source, target))
    moves = []
    armed = fault_kinds.arm(self.cluster.lab, fault, source, target, self.victim_pids,
                            lambda: journals.read() or all(journals.reached(m.id, 'over') for m in moves))
    containers = {name: node for name, node in self.cluster.where().items()}
    moves += [self.order(name, source, target, fabric, mode) for name in chosen]
    over, watcher = threading.Event(), None
    try:
      self.wait_for(journals, moves[0], boundary, rng)
      struck = armed.strike()
      began = time.monotonic()
      for move in moves:
        move.phase = journals.phases[move.id] or 'queued'
      watcher = threading.Thread(target=self.watch, args=(moves, over), daemon=True)
      watcher.start()
      self.hold(fault, rng, moves, began)
      if struck:
        armed.end()
      self.settle(moves, fault, containers)
    finally:
      over.set()
      journals.close()
      if watcher:
        watcher.join()
    self.note(fault, moves, began, struck)
    say(f'{self.number}: {self.last}: ' + ', '.join(
      f'{r["phase"]} {r["on"]} {r["settled_s"]:.1f}s' for r in self.results[-len(moves):]))
    self.judge(moves)
    self.go_on(moves, rng)

  def wait_for(self, journals, move, boundary, rng):
    """Until that phase has begun, or for a random time."""
    end = time.monotonic() + (rng.uniform(0, 0.8) if boundary == RANDOM else 20)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
    try:
      while time.monotonic() < end:
        journals.read()
        if boundary != RANDOM and journals.reached(move.id, boundary):
          break
        time.sleep(0.0003)
    finally:
      os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 0)
    journals.read()

  def hold(self, fault, rng, moves, began):
    """For how long it lasts."""
    long = rng.random() < 0.35
    seconds = rng.uniform(LEASE + 0.5, 2 * LEASE + 1) if long else rng.uniform(0, 1)
    if fault.startswith('power'):
      seconds = 2 * LEASE + 3
    if fault.partition('-')[0] in (*MILD, 'power'):
      end = began + (MILD_S if not fault.startswith('power') else seconds)
      while time.monotonic() < end and not all(self.report_of(move) for move in moves):
        time.sleep(0.1)
      return
    if fault.startswith('kill') and not fault.endswith('daemon'):
      return
    time.sleep(seconds)

  # ---- what became of them

  def settle(self, moves, fault, containers):
    """Waits until each runs where its report says, or its job has ended."""
    end = time.monotonic() + SETTLE_S
    while True:
      entries = self.entries()
      for move in moves:
        if move.settled is None:
          self.look(move, entries, fault, containers)
      if all(move.settled is not None for move in moves):
        return
      if time.monotonic() > end:
        raise Failure('not settled: ' + '; '.join(
          f'{m.id} of {m.container}: ps says {entries[m.container]}, runs on {self.runs_on(m.container)}, copies '
          f'{self.copies(m.container)}, report {json.dumps(self.api("GET", f"/v1/migrations/{m.id}", node=m.source))[:600]}'
          for m in moves if m.settled is None))
      time.sleep(0.05)

  def look(self, move, entries, fault, containers):
    job = self.all_jobs[move.job]
    if job.ended():
      move.on = self.why_ended(job, fault, move, containers)
      move.settled = time.monotonic()
      return
    report = self.report_of(move)
    here = entries[move.container]
    runs, copies = self.runs_on(move.container), self.copies(move.container)
    if (report and len(here) == 1 and here[0]['state'] == 'running' and len(copies) == 1 and
        runs == (here[0]['node'],)):
      move.report, move.on, move.settled = report, here[0]['node'], time.monotonic()

  def why_ended(self, job, fault, move, containers):
    """Its job has ended: the reason, where that may be."""
    job.exit_code()
    text, lines = job.text(), [line for line in self.new_log_lines()]
    self.check_digits(job)
    if fault.startswith('power'):
      dead = move.source if fault.endswith('source') else move.target
      stated = [line for line in job.lines if 'lost' in line or 'on no node' in line]
      others = [c for c in job.containers if c != move.container and containers.get(c) == dead]
      had_it = (dead == move.source and (move.phase not in ('staged', 'commit', 'taken', 'committed', 'over') or
                                         move.mode in ('post-copy', 'hybrid'))) or dead == move.target
      if stated and (others or had_it):
        return 'lost'
    reasons = [line for line in lines if REASON in line or 'the container is ended' in line]
    if reasons and (fault.partition('-')[2] in MAY_COST or move.mode in ('post-copy', 'hybrid')):
      return 'ended'
    if fault == 'kill-source-criu' and any(word in text for word in KILLED_CRIU):
      return 'criu'
    raise Failure(f'job {job.name} has ended with status {job.exit_code()}: ' + ' / '.join(job.lines[-6:]))

  def note(self, fault, moves, began, struck):
    for move in moves:
      runs = 0.0
      if move.on in self.cluster.nodes:
        runs = next((t - began for t, nodes in reversed(move.seen[1:]) if nodes == (move.on,)), 0.0)
      side = {move.source: 'source', move.target: 'target'}.get(move.on, move.on)
      self.results.append({
        'seed': self.args.seed, 'step': self.number, 'fault': fault, 'phase': move.phase, 'mode': move.mode, 'on': side,
        'struck': struck, 'runs_s': round(runs, 3), 'settled_s': round(move.settled - began, 3),
        'error': (move.report.get('error') or '')[:200]})

  @staticmethod
  def judge(moves):
    for move in moves:
      outcome = move.report.get('outcome')
      expected = {'committed': move.target, 'aborted': move.source}.get(outcome)
      if move.two > TWO_S:
        raise Failure(f'two copies of {move.container} ran for {move.two:.2f} s: {move.seen}')
      if expected and move.on != expected:
        raise Failure(f'{move.id}: {outcome}, but {move.container} runs on {move.on}')
      if outcome == 'aborted' and len(move.report.get('error') or '') < 15:
        raise Failure(f'{move.id}: aborted, and nothing says why')

  def go_on(self, moves, rng):
    """The next migration works, the jobs live, nothing is left."""
    self.revive()
    lost = {name for name, job in self.all_jobs.items() if job.ended()}
    for name in lost:
      self.check_lost(name, moves)
    heard = {name: len(job.lines) for name, job in self.all_jobs.items()}
    tasks = [self.pool.submit(self.move_again, move, rng.random()) for move in moves
             if move.job not in lost and move.on in self.cluster.nodes]
    for task in tasks:
      task.result()
    for name in {move.job for move in moves} - lost:
      job = self.all_jobs[name]
      if not job.wait_until(lambda job=job, name=name: len(job.lines) > heard[name], ALIVE_S, 'output'):
        raise Failure(f'job {name} has ended with status {job.exit_code()}: ' + ' / '.join(job.lines[-6:]))
    self.wait_tidy()
    for name in lost:
      self.all_jobs.pop(name).end()
    if lost:
      time.sleep(1)
      self.start_jobs()

  def check_lost(self, name, moves):
    """Jobs none of whose containers was moved may end by a power cut only: then they say so."""
    job = self.all_jobs[name]
    if all(move.job != name for move in moves) and not ('power' in self.last and re.search(
        'lost|on no node', job.text())):
      raise Failure(f'job {name} has ended with status {job.exit_code()}: ' + ' / '.join(job.lines[-6:]))

  def move_again(self, move, chance):
    others = [node for node in self.cluster.nodes if node != move.on]
    target = others[int(chance * len(others))]
    end = time.monotonic() + AGAIN_S
    while True:
      report = self.try_migrate(move.container, target, self.cluster.fabrics[-1], move.mode)
      if report.get('outcome') == 'committed':
        self.again_done += 1
        return
      if self.all_jobs[move.job].ended():
        raise Failure(f'its job has ended during the next migration of {move.container}: ' +
                      ' / '.join(self.all_jobs[move.job].lines[-6:]))
      if time.monotonic() > end:
        raise Failure(f'after it no migration of {move.container} to {target} works: '
                      f'{json.dumps(report.get("error", report))[:400]}')
      time.sleep(0.2)

  def revive(self):
    for node in self.cluster.nodes:
      if self.cluster.lab.daemon(node).proc() is None:
        told = ' / '.join(self.cluster.daemon_log(node)[-3:])
        self.start_daemon(node)
        raise Failure(f'the daemon of {node} has ended: {told}')

  def start_daemon(self, node):
    daemon = self.cluster.lab.daemon(node)
    daemon.start()
    daemon.wait_ready()

  def wait_tidy(self):
    end = time.monotonic() + TIDY_S
    while left := left_in_run_dir(self.cluster):
      if time.monotonic() > end:
        raise Failure('left behind: ' + '; '.join(left))
      time.sleep(0.3)

  # ---- all of them

  def run_rounds(self, cluster):
    """Steps, and now and then the ends of the jobs, in one lab: until all is done or a problem is found."""
    self.cluster = cluster
    self.read.clear()
    before = cluster.snapshot()
    while not self.over():
      self.start_jobs()
      daemons = cluster.daemons()
      for _ in range(ROUND):
        if self.over():
          break
        self.step()
        self.number += self.args.step is None
      self.end_jobs()
      self.check_left(before, daemons)
      self.write()

  def check_left(self, before, daemons):
    left = self.cluster.leftovers(before, lambda line: RECORD.fullmatch(line) or KEPT.match(line), 20)
    if left:
      raise Failure('left behind:\n' + '\n'.join(left))
    for node, now in self.cluster.daemons().items():
      if now['pid'] == daemons[node]['pid'] and now['files'] > daemons[node]['files'] + FILES_MORE:
        raise Failure(f'lifeboatd of {node} holds {now["files"]} files open; {daemons[node]["files"]} before')

  def over(self):
    late = self.args.seconds and time.monotonic() - self.began > self.args.seconds
    return late or self.migrations() >= self.args.migrations

  def migrations(self):
    return len(self.results) + self.again_done

  def run_labs(self):
    """After a problem a new lab goes on."""
    while not self.over():
      with FaultLab(self.args) as cluster:
        try:
          self.run_rounds(cluster)
        except (Failure, LabError, OSError) as failure:
          if isinstance(failure, harness.Interrupted):
            raise
          self.problem(failure)
        finally:
          for job in self.all_jobs.values():
            job.kill()
          self.all_jobs.clear()
      self.number += self.args.step is None
      self.write()

  def problem(self, failure):
    text = f'{type(failure).__name__}: {failure}'
    place = os.path.join(LOGS, self.args.name, f'problem-{len(self.problems) + 1}')
    self.problems.append({'seed': self.args.seed, 'step': self.number, 'what': self.last,
                          'problem': text[:3000], 'evidence': os.path.relpath(place, ROOT)})
    say(f'PROBLEM {len(self.problems)}: step {self.number}, {self.last}: {text[:1500]}')
    evidence.collect(self.cluster, next(iter(self.all_jobs.values()), None), place, f'{self.last}\n{text}')
    for name, job in self.all_jobs.items():
      with open(os.path.join(place, f'job-{name}.txt'), 'w', encoding='utf-8') as file:
        file.write('\n'.join(job.lines[-200:]) + '\n')

  def summary(self):
    return {'ok': not self.problems, 'seed': self.args.seed, 'migrations': self.migrations(),
            'jobs': self.ended_jobs, 'residuals': self.residuals, 'digits': self.digits,
            'results': self.results, 'problems': self.problems}

  def write(self):
    if self.args.json:
      with open(self.args.json + '.new', 'w', encoding='utf-8') as file:
        json.dump(self.summary(), file, indent=1)
      os.rename(self.args.json + '.new', self.args.json)


def main(args):
  if args.add:
    runs = []
    for path in args.add:
      with open(path, encoding='utf-8') as file:
        runs.append(json.load(file))
    return fault_table.tell(runs)
  say(f'seed {args.seed}')
  faults = Faults(args)
  try:
    faults.run_labs()
  finally:
    faults.pool.shutdown(wait=False, cancel_futures=True)
    faults.write()
    status = fault_table.tell([faults.summary()])
  return status
