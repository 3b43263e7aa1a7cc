"""`scripts/soak faults`: see there. One fault in each of many steps, in which HPL's ranks are migrated."""
import collections
import http.client
import json
import os
import random
import signal
import threading
import time

from benchlib import evidence, fault_kinds, fault_table, harness
from benchlib.failing import left_in_run_dir
from benchlib.fault_jobs import HplJobs, stated, tell_end
from benchlib.fault_lab import LEASE, FaultLab, private_mounts
from benchlib.fault_watch import BOUNDARIES, OVER, Journals, Move, Watcher
from benchlib.harness import ROOT, Failure, say
from benchlib.soak import LOGS, RECORD
from benchlib.torture import KEPT, MAY_COST, REASON, Torture
from lablib.base import LabError

RANDOM = 'random'
AT_ONCE = (1, 2, 2, 3, 3)   # containers that are moved at once
ROUND = 12                  # steps before the jobs are ended and looked at
SETTLE_S = 60
AGAIN_S = 30                # until the next migration must have worked
TIDY_S = 50                 # what could not be removed at once is looked for every 30 s
TWO_S = 0.1                 # two copies that run, if only one is just ending
FILES_MORE = 12
MILD = ('slow', 'lossy', 'full')   # these last until the migrations are over
MILD_S = 12
KILLED_CRIU = ('Operation not permitted', 'SIGNAL: 5', 'Trace/breakpoint trap', 'signal 5')


class Faults(Torture):

  def __init__(self, args):
    args.modes = args.modes or ['pre-copy']
    super().__init__(args, None)
    self.hpl = HplJobs(args)
    self.lines = []           # of the daemons' logs, in this step
    self.results = []         # one per migration, see fault_table.py
    self.problems = []
    self.again_done = 0
    self.began = time.monotonic()
    self.number = args.first if args.step is None else args.step

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

  # ---- one step

  def plan(self, step):
    """(fault, boundary, what else is random in this step)"""
    known = [(fault, boundary) for fault in self.args.faults for boundary in (*BOUNDARIES, RANDOM, RANDOM)]
    random.Random(f'{self.args.seed} {step // len(known)}').shuffle(known)
    return (*known[step % len(known)], random.Random(f'{self.args.seed}:{step}'))

  def begin(self, rng):
    """Migrations from one node to one other."""
    where = {name: node for name, node in sorted(self.cluster.where().items())
             if name.rpartition('-')[0] in self.hpl.now}
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
    self.lines.clear()
    journals = Journals(self.cluster.lab, (source, target))
    moves = []
    armed = fault_kinds.arm(self.cluster.lab, fault, source, target, self.victim_pids,
                            lambda: journals.read() or all(journals.reached(m.id, OVER) for m in moves))
    containers = {name: node for name, node in self.cluster.where().items()}
    moves += [self.order(name, source, target, fabric, mode) for name in chosen]
    watcher = None
    try:
      self.wait_for(journals, moves[0], boundary, rng)
      struck = armed.strike()
      began = time.monotonic()
      for move in moves:
        move.phase = journals.phases[move.id] or 'queued'
      watcher = Watcher(self.cluster, moves)
      self.hold(fault, rng, moves, began)
      if struck:
        armed.end()
      self.settle(moves, fault, containers, watcher)
    finally:
      journals.close()
      if watcher:
        watcher.stop()
    self.note(fault, moves, began, struck)
    say(f'{self.number}: {self.last}: ' + ', '.join(
      f'{r["phase"]} {r["on"]} {r["settled_s"]:.1f}s' for r in self.results[-len(moves):]))
    self.judge(moves)
    dead = {'power-source': source, 'power-target': target}.get(fault)
    moved = {move.container for move in moves}
    self.go_on(moves, rng, {name.rpartition('-')[0] for name, node in containers.items()
                            if node == dead and name not in moved})

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

  def settle(self, moves, fault, containers, watcher):
    """Waits until each runs where its report says, or its job has ended."""
    end = time.monotonic() + SETTLE_S
    while True:
      entries = self.entries()
      for move in moves:
        if move.settled is None:
          self.look(move, entries, fault, containers, watcher)
      if all(move.settled is not None for move in moves):
        return
      if time.monotonic() > end:
        raise Failure('not settled: ' + '; '.join(
          f'{m.id} of {m.container}: ps says {entries[m.container]}, runs on {watcher.runs_on(m.container)}, copies '
          f'{self.copies(m.container)}, report {json.dumps(self.api("GET", f"/v1/migrations/{m.id}", node=m.source))[:600]}'
          for m in moves if m.settled is None))
      time.sleep(0.05)

  def look(self, move, entries, fault, containers, watcher):
    job = self.hpl.now[move.job]
    if job.ended():
      move.on = self.why_ended(job, fault, move, containers)
      move.settled = time.monotonic()
      return
    report = self.report_of(move)
    here = entries[move.container]
    runs, copies = watcher.runs_on(move.container), self.copies(move.container)
    if (report and len(here) == 1 and here[0]['state'] == 'running' and len(copies) == 1 and
        runs == (here[0]['node'],)):
      move.report, move.on, move.settled = report, here[0]['node'], time.monotonic()

  def why_ended(self, job, fault, move, containers):
    """Its job has ended: the reason, where that may be."""
    self.lines += self.new_log_lines()
    self.hpl.check(job)
    if fault.startswith('power') and stated(job):
      dead = move.source if fault.endswith('source') else move.target
      others = any(containers.get(name) == dead for name in job.containers if name != move.container)
      had_it = dead == move.target or move.mode in ('post-copy', 'hybrid') or move.phase in (
        'queued', *BOUNDARIES[:BOUNDARIES.index('staged')])
      if others or had_it:
        return 'lost'
    reasons = [line for line in self.lines if REASON in line or 'the container is ended' in line]
    if reasons and (fault.partition('-')[2] in MAY_COST or move.mode in ('post-copy', 'hybrid')):
      return 'ended'
    if fault == 'kill-source-criu' and any(word in job.text() for word in KILLED_CRIU):
      return 'criu'
    raise Failure(tell_end(job))

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

  def go_on(self, moves, rng, doomed):
    """The next migration works, the jobs live but those that have lost a container, nothing is left."""
    self.revive()
    for name in doomed:
      self.hpl.wait_lost(name)
    lost = doomed | {move.job for move in moves if move.on not in self.cluster.nodes}
    for name, job in self.hpl.now.items():
      if name not in lost and job.ended():
        raise Failure(tell_end(job))
    heard = {name: len(job.lines) for name, job in self.hpl.now.items()}
    going = [move for move in moves if move.job not in lost]
    for task in [self.pool.submit(self.move_again, move, rng.random()) for move in going]:
      task.result()
    for name in {move.job for move in going}:
      self.hpl.alive(name, heard[name])
    self.wait_tidy()
    for name in lost:
      self.hpl.now.pop(name).end()
    if lost:
      time.sleep(1)
      self.hpl.start()

  def move_again(self, move, chance):
    others = [node for node in self.cluster.nodes if node != move.on]
    target = others[int(chance * len(others))]
    end = time.monotonic() + AGAIN_S
    while True:
      report = self.try_migrate(move.container, target, self.cluster.fabrics[-1], move.mode)
      # The command may have given up what the daemons went on with.
      if report.get('outcome') == 'committed' or self.cluster.where().get(move.container) == target:
        self.again_done += 1
        return
      if self.hpl.now[move.job].ended():
        raise Failure(f'during the next migration of {move.container}: {tell_end(self.hpl.now[move.job])}')
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
    self.cluster = self.hpl.cluster = cluster
    self.read.clear()
    before = cluster.snapshot()
    while not self.over():
      self.hpl.start()
      daemons = cluster.daemons()
      for _ in range(ROUND):
        if self.over():
          break
        self.step()
        self.number += self.args.step is None
      self.hpl.stop()
      self.check_left(before, daemons)
      self.write()

  def check_left(self, before, daemons):
    # Of the host other labs change something, too.
    left = self.cluster.leftovers(before, lambda line: RECORD.fullmatch(line) or KEPT.match(line) or
                                  line.startswith('host.'), 20)
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
      try:
        with FaultLab(self.args) as cluster:
          self.run_lab(cluster)
      except LabError as error:  # too slow to come up: nothing is known of a fault
        say(f'no lab: {str(error).splitlines()[0]}')
        # Lab.up() lets no second signal disturb what it undoes, and takes it for its caller's end.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
      self.number += self.args.step is None
      self.write()

  def run_lab(self, cluster):
    try:
      self.run_rounds(cluster)
    except (Failure, LabError, OSError) as failure:
      if isinstance(failure, harness.Interrupted):
        raise
      self.problem(failure)
    finally:
      self.hpl.kill()

  def problem(self, failure):
    text = f'{type(failure).__name__}: {failure}'
    place = os.path.join(LOGS, self.args.name, f'problem-{len(self.problems) + 1}')
    self.problems.append({'seed': self.args.seed, 'step': self.number, 'what': self.last,
                          'problem': text[:3000], 'evidence': os.path.relpath(place, ROOT)})
    say(f'PROBLEM {len(self.problems)}: step {self.number}, {self.last}: {text[:1500]}')
    evidence.collect(self.cluster, next(iter(self.hpl.now.values()), None), place, f'{self.last}\n{text}')
    for name, job in self.hpl.now.items():
      with open(os.path.join(place, f'job-{name}.txt'), 'w', encoding='utf-8') as file:
        file.write('\n'.join(job.lines[-200:]) + '\n')

  def summary(self):
    return {'ok': not self.problems, 'seed': self.args.seed, 'migrations': self.migrations(),
            'jobs': self.hpl.ended, 'residuals': self.hpl.residuals, 'digits': self.hpl.digits,
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
  private_mounts()
  faults = Faults(args)
  try:
    faults.run_labs()
  finally:
    faults.pool.shutdown(wait=False, cancel_futures=True)
    faults.write()
    status = fault_table.tell([faults.summary()])
  return status
