"""What both demos share: the lab, HPL in peace, how a job went, what moved, what is left behind."""
import os
import statistics
import time

from demolib import hpl
from demolib.cluster import ROOT, Cluster, Failure
from demolib.screen import table
from lablib import base

FABRICS = ('10g', '1g')
PARTS = ('freeze', 'dump', 'transfer', 'restore', 'network', 'resume')
START_LIMIT = 30       # seconds until all containers run
REFERENCE_LIMIT = 3600
LINES_SHOWN = 5        # of what was left behind
GRACE = 20             # seconds for a job to end once a daemon is dead


class Job:
  """One `lifeboat run`, followed in the background."""

  def __init__(self, cluster, name, bundle, size):
    self.cluster, self.name = cluster, name
    self.output = cluster.path(f'{name}.out')
    job = hpl.write_job(cluster.directory, name, bundle, size)
    self.began = time.monotonic()
    self.ended = None
    with open(self.output, 'w', encoding='utf-8') as out, \
         open(cluster.path(f'{name}.err'), 'w', encoding='utf-8') as error:
      self.process = cluster.operator('run', job, stdout=out, stderr=error)

  def running(self):
    if self.ended is None and self.process.poll() is not None:
      self.ended = time.monotonic()
    return self.ended is None

  def seconds(self):
    return round((self.ended or time.monotonic()) - self.began, 3)

  def text(self):
    return base.read(self.output, '')

  def said(self):
    """The end of what `lifeboat run` complained about."""
    lines = base.read(self.cluster.path(f'{self.name}.err'), '').strip().splitlines()
    return '; '.join(lines[-3:])

  def places(self):
    """{container: node} once all run, or None."""
    found = self.cluster.containers(self.name)
    if found is None or len(found) != hpl.RANKS or any(len(e) != 1 for e in found.values()):
      return None
    return {name: entries[0]['node'] for name, entries in sorted(found.items())}


class Move:
  """One migration: who, from where to where, and the report of it."""

  def __init__(self, number, container, source, target, fabric):
    self.number, self.container, self.source = number, container, source
    self.target, self.fabric = target, fabric
    self.report, self.problem = {}, ''

  def over(self):
    return True

  def ok(self):
    return self.over() and not self.problem

  def record(self):
    keep = ('id', 'container', 'source', 'target', 'fabric', 'outcome', 'downtime_ms',
            'downtime_parts_ms', 'total_ms', 'bytes_sent', 'resident_bytes', 'warnings')
    out = {'number': self.number, 'container': self.container, 'source': self.source,
           'target': self.target, 'fabric': self.fabric, 'problem': self.problem}
    out.update((key, self.report[key]) for key in keep if key in self.report)
    return out


def layout(places, nodes):
  """Who is where: "n1: 0 3  n2: 1  n3: 2"."""
  return '   '.join(f'{node}: ' + (' '.join(name.rpartition('-')[2] for name, at in places.items()
                                            if at == node) or '-') for node in nodes)


def plural(count, what='migration'):
  return f'{count} {what}' + ('' if count == 1 else 's')


class Demo:
  """`title`, and what is done to the second run of HPL, are its children's."""

  enough = 75   # seconds of HPL without migrations, on a slow machine

  def __init__(self, build, bundle, size, screen):
    """`size` is HPL's N; 0: what suits the machine."""
    self.build, self.bundle, self.size = build, bundle, size
    self.screen, self.cluster = screen, Cluster()
    self.deviations, self.moves, self.left = [], [], None
    self.still, self.moved = None, None        # results of the two runs
    self.still_seconds = self.moved_seconds = None
    self.given_up = False   # a job would not end
    self.logs = None
    self.began = time.monotonic()

  def deviation(self, text):
    self.deviations.append(text)
    self.screen.say('  ' + self.screen.bad('DEVIATION') + ' ' + text)

  def lab_file(self, directory):
    """The description of the lab."""
    return os.path.join(ROOT, 'configs', 'lab.yaml')

  # ---- the way of things

  def run(self):
    say = self.screen.say
    self.screen.title(self.title())
    for name in self.cluster.leftovers():
      say(f'  Lab {name} of a demo that was killed is still there; remove it with:',
          f'    scripts/lab --name {name} down')
    self.check_machine()
    began = time.monotonic()
    self.cluster.up(self.build, self.lab_file)
    say(f'  lab    {self.cluster.name}: head, {", ".join(self.cluster.nodes)}; fabrics of 1 and '
        f'10 Gbit/s; up in {time.monotonic() - began:.1f} s')
    if not self.size:
      self.size = self.fitting_size()
    say(f'  HPL    N={self.size}, 2 x 2 ranks, one per container, {hpl.share(self.size):.0f} MiB '
        'of the matrix in each')
    self.reference()
    if not self.deviations:
      self.disturbed()
    if not self.given_up:
      self.look_for_leaks()

  def check_machine(self):
    facts = dict(line.split(':') for line in base.read('/proc/meminfo').splitlines())
    available = int(facts['MemAvailable'].split()[0]) // 1024
    size = self.size or hpl.SIZE
    needed = hpl.memory_needed(size)
    if available < needed:
      raise Failure(f'--size {size} needs {needed:.0f} MiB of memory, {available} MiB are '
                    'available; use a smaller --size')
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if load > 1:
      self.screen.say(f'  note   this machine has {cores} cores and other work to do (load '
                      f'{load:.1f}): all times are longer for it')

  def fitting_size(self):
    job = Job(self.cluster, 'trial', self.bundle, hpl.TRIAL_SIZE)
    self.finish(job, REFERENCE_LIMIT)
    seconds = hpl.Result(job.text()).seconds
    if seconds is None:
      raise Failure(f'a first HPL of N={hpl.TRIAL_SIZE} printed no result: {job.said() or "see its output"}')
    size = hpl.size_for(seconds, self.enough)
    if size < hpl.SIZE:
      self.screen.say(f'  note   N={hpl.TRIAL_SIZE} takes {seconds:.1f} s here, N={hpl.SIZE} might take '
                      f'{hpl.seconds_for(hpl.SIZE, seconds):.0f} (--size {hpl.SIZE}): less is computed')
    return size

  def reference(self):
    self.screen.title('1. Without migrations')
    job = Job(self.cluster, 'still', self.bundle, self.size)
    self.say_places(job)
    self.finish(job, REFERENCE_LIMIT)
    self.still, self.still_seconds = self.judge(job), job.seconds()

  @staticmethod
  def find(job, seconds=5):
    """Where the job's containers are. None if it is over, or they are not to be found."""
    end = time.monotonic() + seconds
    while job.running() and time.monotonic() < end:
      places = job.places()
      if places:
        return places
      time.sleep(0.1)
    return None

  def say_places(self, job):
    places = self.find(job, START_LIMIT)
    if places:
      self.screen.say(f'  ranks  {layout(places, self.cluster.nodes)}')
    elif job.running():
      self.deviation(f'job {job.name}: not all containers run after {START_LIMIT} s')
    return places

  def wait(self, job, seconds, text):
    end = time.monotonic() + seconds
    while time.monotonic() < end and job.running():
      self.screen.live(f'      {job.seconds():6.1f} s  {text}')
      time.sleep(0.1)

  def finish(self, job, limit):
    """Waits for the end of HPL."""
    end = time.monotonic() + limit
    dead = []
    while job.running():
      if not dead:
        dead = self.cluster.dead_daemons()
        if dead:
          self.deviation(f'lifeboatd has ended on {", ".join(dead)}')
          end = min(end, time.monotonic() + GRACE)
      if time.monotonic() > end:
        self.deviation(f'job {job.name} hangs: not ended after {job.seconds():.0f} s; given up')
        self.given_up = True
        return
      self.screen.live(f'  HPL    running, {job.seconds():.0f} s')
      time.sleep(0.2)

  def judge(self, job):
    """Reads what HPL printed and says how it went."""
    result = hpl.Result(job.text())
    code = job.process.poll()
    if code:
      self.deviation(f'job {job.name} ended with exit status {code}: '
                     f'{job.said() or "see its output"}')
    if not result.passed and not self.given_up:
      self.deviation(f'job {job.name}: HPL did not print PASSED')
    elif result.passed:
      self.screen.say(f'  HPL    {result.seconds:.1f} s, {result.gflops:.1f} Gflops, residual '
                      f'{result.residual} ... {self.screen.good("PASSED")}')
    return result

  # ---- migrations

  def settle(self, job):
    """After a migration failed: whether the job still runs. Its end takes a moment to be known."""
    end = time.monotonic() + 2
    while job.running() and time.monotonic() < end:
      time.sleep(0.1)
    return job.running()

  def look_for_leaks(self):
    self.left = self.cluster.left()
    for line in self.left[:LINES_SHOWN]:
      self.deviation(f'not as it was before the jobs: {line}')
    more = len(self.left) - LINES_SHOWN
    if more > 0:
      self.deviation(f'and {more} more such lines: see snapshot-difference.txt')

  def summary(self):
    if self.still and self.moved and self.still.residual and self.moved.residual:
      if self.still.residual != self.moved.residual:
        self.deviation(f'the residuals differ: {self.still.residual} without and '
                       f'{self.moved.residual} with migrations')
    if not self.moves:
      return
    say = self.screen.say
    self.screen.title('3. What came of it')
    if self.moved:
      for title, result in (('without migrations', self.still),
                            ('with them', self.moved)):
        say(f'  HPL {title}:', *(f'    {line}' for line in result.lines or ['(no result)']))
      say('')
      self.say_comparison()
    say('  Migrations (times in ms; the parts add up to the downtime):', '')
    self.say_migrations()

  def say_comparison(self):
    still, moved = self.still, self.moved
    if not (still.passed and moved.passed):
      return
    same = still.residual == moved.residual
    rows = [('', 'without', 'with', ''),
            ('residual', still.residual, moved.residual,
             'the same to the last digit' if same else 'DIFFERENT'),
            ('HPL, s', f'{still.seconds:.1f}', f'{moved.seconds:.1f}',
             f'x {moved.seconds / still.seconds:.2f}'),
            ('Gflops', f'{still.gflops:.1f}', f'{moved.gflops:.1f}', ''),
            ('whole job, s', f'{self.still_seconds:.1f}', f'{self.moved_seconds:.1f}',
             f'x {self.moved_seconds / self.still_seconds:.2f}')]
    self.say_table(rows, '<>><')

  def say_table(self, rows, align):
    self.screen.say(*('  ' + line for line in table(rows, align)), '')

  def say_migrations(self):
    rows = [('#', 'rank', 'move', 'net', 'MiB', 'downtime', *PARTS, 'total')]
    for move in self.moves:
      if not move.ok():
        rows.append((move.number, move.container, f'{move.source}->{move.target}', move.fabric, '',
                     'FAILED', *[''] * len(PARTS), ''))
        continue
      report = move.report
      rows.append((move.number, move.container, f'{move.source}->{move.target}', move.fabric,
                   report['bytes_sent'] >> 20, f'{report["downtime_ms"]:.0f}',
                   *(f'{report["downtime_parts_ms"][part]:.0f}' for part in PARTS),
                   f'{report["total_ms"]:.0f}'))
    self.say_table(rows, '><<>>>>>>>>>>')
    for title, times in [('all', self.downtimes())] + [(f, self.downtimes(f)) for f in FABRICS]:
      if times:
        self.screen.say(f'  downtime, {title + ":":<5} median {statistics.median(times):5.0f} ms, '
                        f'max {max(times):5.0f} ms')
    for move in self.moves:
      for warning in move.report.get('warnings', ()):
        self.screen.say(f'  migration {move.number} warned: {warning}')

  def done(self):
    return sum(move.ok() for move in self.moves)

  def downtimes(self, fabric=None):
    return [m.report['downtime_ms'] for m in self.moves if m.ok() and fabric in (None, m.fabric)]

  def verdict(self):
    say = self.screen.say
    say('')
    if self.deviations:
      say(self.screen.bad('NOT AS IT SHOULD BE:'), *(f'  - {line}' for line in self.deviations))
      if self.logs:
        say(f'Logs of the daemons and outputs of the jobs: {self.logs}')
      return
    say(self.screen.good('OK') + f': {self.good_news()}, nothing left behind, '
        f'{time.monotonic() - self.began:.0f} s')

  def good_news(self):
    return f'{plural(self.done())}, HPL passed with the same residual'

  def figures(self):
    still, moved = self.still or hpl.Result(''), self.moved or hpl.Result('')

    def both(function, a, b):
      return function(a, b) if a is not None and b is not None else None

    def spread(times):
      return {'median': round(statistics.median(times), 3), 'max': max(times)} if times else None

    return {
      'ok': not self.deviations, 'size': self.size,
      'migrations': self.done(),
      'hpl_passed': still.passed and moved.passed,
      'residual': moved.residual, 'residual_without_migration': still.residual,
      'residual_same': both(lambda a, b: a == b, moved.residual, still.residual),
      'downtime_ms': spread(self.downtimes()) or {'median': None, 'max': None},
      'downtime_ms_by_fabric': {f: spread(self.downtimes(f)) for f in FABRICS},
      'hpl_seconds': moved.seconds, 'hpl_seconds_without_migration': still.seconds,
      'hpl_seconds_ratio': both(lambda a, b: round(a / b, 3), moved.seconds, still.seconds),
      'gflops': moved.gflops, 'gflops_without_migration': still.gflops,
      'job_seconds': self.moved_seconds, 'job_seconds_without_migration': self.still_seconds,
      'seconds': round(time.monotonic() - self.began, 3),
      'left_behind': self.left, 'deviations': self.deviations, 'logs': self.logs,
      'moves': [move.record() for move in self.moves]}
