"""scripts/demo --manual: HPL while its ranks are moved from node to node by hand."""
import signal
import subprocess
import threading
import time

from demolib import hpl
from demolib.run import FABRICS, Demo, Job, Move, layout, plural

PHASES = ('connect', 'freeze', 'dump', 'transfer', 'restore', 'commit')
PAUSE_MOST = 3.0       # seconds between two migrations; less if HPL takes less than 25 s
MIGRATION_LIMIT = 120  # seconds


class Command(Move):
  """One `lifeboat migrate`, in a thread."""

  def __init__(self, number, job, container, source, target, fabric, note):
    super().__init__(number, container, source, target, fabric)
    self.job, self.note, self.id, self.phases = job, note, '', []
    self.began, self.ended = time.monotonic(), None
    self.thread = threading.Thread(target=self.run, daemon=True)
    self.thread.start()

  def run(self):
    cluster, told = self.job.cluster, []
    child = cluster.operator('migrate', self.container, '--to', self.target, '--fabric',
                             self.fabric, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    timer = threading.Timer(MIGRATION_LIMIT, child.kill)
    timer.start()
    for line in child.stderr:
      told.append(line.strip())
      if line.startswith('migration '):
        self.id = line.split()[1]
      elif told[-1] in PHASES:
        self.phases.append(told[-1])
    code = child.wait()
    timer.cancel()
    self.report = (self.id and cluster.get(f'/v1/migrations/{self.id}')) or {}
    outcome = self.report.get('outcome', 'unknown')
    if code == -signal.SIGKILL:
      self.problem = f'not done after {MIGRATION_LIMIT} s, phase {(self.phases or ["none"])[-1]}'
    elif code != 0 or outcome != 'committed':
      why = self.report.get('error') or '; '.join(
        line.removeprefix('lifeboat: ') for line in told
        if line not in PHASES and not line.startswith('migration '))
      self.problem = f'{outcome}, exit status {code}: {why}'
    self.ended = time.monotonic()

  def over(self):
    return self.ended is not None

  def line(self):
    """The migration in one line: as far as it is."""
    reached = max((PHASES.index(p) for p in self.phases), default=-1)
    trail = ' '.join(PHASES if self.ok() else PHASES[:reached + 1])
    if self.ok():
      result = f'{self.report["downtime_ms"]:.0f} ms'
    else:
      result = 'FAILED' if self.over() else f'{time.monotonic() - self.began:.1f} s'
    return (f'  {self.number:>2} {self.began - self.job.began:6.1f} s  {self.container:<5}  '
            f'{self.source} -> {self.target}  {self.fabric:>3}  {trail:<42}  {result:>8}  '
            f'{self.note}')


def schedule(count):
  """[(numbers of the migrations that start together, whether a pause comes before)]

  Of each four, one per rank, the last two go at the same time, and the next follows at once."""
  out, number = [], 0
  while number < count:
    group = [number, number + 1] if number % 4 == 2 and number + 1 < count else [number]
    out.append((group, number == 0 or number % 4 != 0))
    number += len(group)
  return out


class Manual(Demo):
  def __init__(self, build, bundle, size, screen, count):
    super().__init__(build, bundle, size, screen)
    self.count = count
    self.enough = 20 * count

  def title(self):
    return (f'Lifeboat: HPL in {hpl.RANKS} containers on 3 nodes, '
            f'{plural(self.count, "live migration")}')

  def disturbed(self):
    self.screen.title(f'2. The same with {plural(self.count)} (lifeboat migrate, on the head '
                      'node)')
    job = Job(self.cluster, 'hpl', self.bundle, self.size)
    if self.say_places(job):
      self.screen.say('', f'  {"#":>2} {"at":>8}  {"rank":<5}  {"move":<8}  net  {"phases":<42}  '
                      'downtime')
      self.move_all(job)
      places = job.places()
      if places and job.running():
        self.screen.say('', f'  ranks  {layout(places, self.cluster.nodes)}')
    self.finish(job, 60 + (2 if self.deviations else 5) * self.still_seconds)
    self.moved, self.moved_seconds = self.judge(job), job.seconds()

  def move_all(self, job):
    groups = schedule(self.count)
    pauses = sum(pause for _, pause in groups)
    pause = min(PAUSE_MOST, 0.6 * self.still.seconds / (pauses + 1))
    for group, pause_before in groups:
      if pause_before:
        self.wait(job, pause, 'HPL computes')
      places = self.find(job)
      if places is None:
        if job.running():
          self.deviation(f'not every container of job {job.name} is to be found on just one node')
        else:
          self.too_short(job, group[0])
        return
      notes = ['at once', 'at once'] if len(group) > 1 else ['' if pause_before else 'no pause']
      moves = [self.start(number, job, places, note) for number, note in zip(group, notes)]
      self.moves += moves
      self.watch(moves)
      if not all(move.ok() for move in moves):
        if not self.settle(job) and hpl.Result(job.text()).passed:
          self.too_short(job, self.done())
          return
        for move in moves:
          if move.problem:
            self.deviation(f'migration {move.number} of {move.container} from {move.source} to '
                           f'{move.target}: {move.problem}')
        return
      self.check_places(job, moves)

  def start(self, number, job, places, note):
    """Each rank in turn goes to the node after its own; each meets both fabrics."""
    nodes, names = self.cluster.nodes, list(places)
    container = names[number % len(names)]
    source = places[container]
    target = nodes[(nodes.index(source) + 1) % len(nodes)]
    fabric = FABRICS[(number + number // len(names)) % len(FABRICS)]
    return Command(number + 1, job, container, source, target, fabric, note)

  def watch(self, moves):
    shown = set()
    while len(shown) < len(moves):
      for move in moves:
        if move.over() and move not in shown:
          shown.add(move)
          self.screen.say(move.line())
      self.screen.live(*(move.line() for move in moves if move not in shown))
      time.sleep(0.05)

  def too_short(self, job, done):
    if hpl.Result(job.text()).passed:
      self.deviation(f'HPL ended after {job.seconds():.0f} s, when only {done} of {self.count} '
                     'migrations were done; use a larger --size, e.g. '
                     f'{max(hpl.SIZE, self.size * 5 // 400 * 100)}')
    else:
      self.deviation(f'job {job.name} ended early, when {done} of {self.count} migrations were '
                     'done')

  def check_places(self, job, moves):
    """Not what the command says, but where the container is: once, and at the target."""
    found = job.cluster.containers(job.name)
    for move in moves if found is not None and job.running() else ():
      nodes = [entry['node'] for entry in found.get(move.container, [])]
      if nodes != [move.target] and self.settle(job):
        self.deviation(f'{move.container} was moved to {move.target}, but is on '
                       f'{", ".join(nodes) or "no node"}')

  # ---- the end

  def figures(self):
    return {**super().figures(), 'migrations_wanted': self.count}
