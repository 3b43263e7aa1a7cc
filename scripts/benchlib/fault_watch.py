"""What is seen of migrations from outside: their phases, in the nodes' journals, and where containers run."""
import collections
import contextlib
import json
import os
import threading
import time

from benchlib.fault_lab import state_directory
from lablib import cgroup
from lablib.base import read

# In order: as the source's journal calls them, but `staged` and `taken`, which are what the target's calls
# staged and committed; `over`, when nothing goes on any more, comes after them.
BOUNDARIES = ('connect', 'pre-copy', 'layer', 'prepare', 'freeze', 'dump', 'transfer', 'restore', 'staged',
              'commit', 'taken', 'committed')
OVER = 'over'


class Move:
  """One migration of one step."""

  def __init__(self, migration, container, source, target, mode):
    self.id, self.container, self.source, self.target, self.mode = migration, container, source, target, mode
    self.job = container.rpartition('-')[0]
    self.phase = OVER         # when the fault struck
    self.report = {}
    self.on = None            # where it runs on, or why nowhere
    self.seen = []            # [(time, nodes where it runs)]: changes
    self.two = 0.0            # how long two copies ran, s
    self.settled = None


class Journals:
  """Which phase migrations are in, by what the daemons of some nodes write from now on."""

  def __init__(self, lab, nodes):
    self.paths = {node: os.path.join(state_directory(lab, node), 'migrations.jsonl') for node in nodes}
    self.files = {}
    self.phases = collections.defaultdict(str)
    self.open()
    for file in self.files.values():
      file.seek(0, os.SEEK_END)

  def open(self):
    for node, path in self.paths.items():
      if node not in self.files and os.path.exists(path):
        self.files[node] = open(path, encoding='utf-8', errors='replace')

  def close(self):
    for file in self.files.values():
      file.close()

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
      phase = OVER
    if phase and self.rank(phase) >= self.rank(self.phases[entry['id']]):
      self.phases[entry['id']] = phase

  @staticmethod
  def rank(phase):
    order = (*BOUNDARIES, OVER)
    return order.index(phase) if phase in order else -1

  def reached(self, migration, phase):
    return self.rank(self.phases[migration]) >= self.rank(phase)


class Watcher:
  """Where the containers of some Moves run, until it is stopped; not asked from the daemons."""

  def __init__(self, cluster, moves):
    self.cluster, self.moves = cluster, moves
    self.two = cgroup.hierarchies()[0]
    self.over = threading.Event()
    self.thread = threading.Thread(target=self.watch, daemon=True)
    self.thread.start()

  def stop(self):
    self.over.set()
    self.thread.join()

  def watch(self):
    last = time.monotonic()
    while not self.over.wait(0.008):
      for move in self.moves:
        now = self.runs_on(move.container)
        if len(now) > 1 and move.seen and move.seen[-1][1] == now:
          move.two += time.monotonic() - last
        if not move.seen or move.seen[-1][1] != now:
          move.seen.append((time.monotonic(), now))
      last = time.monotonic()

  def runs_on(self, container):
    """Nodes where a process of it runs. Not CRIU, which waits in its cgroup for the images, nor what is
    about to become CRIU, nor what CRIU still restores, as its child, or holds."""
    nodes = []
    for node in self.cluster.nodes:
      path = f'{self.two}/{self.cluster.lab.containers_of(node)}/{container}'
      pids = read(f'{path}/cgroup.procs', '').split()
      if pids and read(f'{path}/cgroup.freeze', '').strip() != '1' and self.runs(pids):
        nodes.append(node)
    return tuple(nodes)

  @staticmethod
  def runs(pids):
    states = []
    for pid in pids:
      words = read(f'/proc/{pid}/stat', ') X 0').rpartition(')')[2].split()
      if program(words[1]) == 'criu':
        return False
      if program(pid) not in ('criu', 'lifeboatd', ''):
        states.append(words[0])
    return any(state not in 'tTZX' for state in states)


def program(pid):
  try:
    return os.path.basename(os.readlink(f'/proc/{pid}/exe'))
  except OSError:
    return ''
