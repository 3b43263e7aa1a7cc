"""One run: a job, the migrations that happen to it, and what came of both."""
import concurrent.futures
import contextlib
import os
import shutil
import time

from benchlib import harness
from benchlib.harness import Failure, Interrupted
from benchlib.host import Host
from campaignlib import container_state, spoil
from lablib.base import LabError

KEPT_BYTES = 64 << 20   # of a file in /work that is kept with the run
BYSTANDER_COMMAND = ['/bin/sleep', '1000000']   # it is ended with the run


class Run:
  """`record` is what becomes run.json: filled as the run goes, so that a failed run keeps what it has."""

  def __init__(self, spec, planned, cluster, directory):
    self.spec, self.planned, self.cluster, self.directory = spec, planned, cluster, directory
    self.app = spec.applications[planned['application']]
    self.record = {**planned, 'started_at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
                   'state': 'failed', 'migrations': [], 'problems': []}
    self.work = os.path.join(cluster.work, 'work')
    self.jobs = []
    self.moved = 0   # containers moved so far: whose turn it is

  def make(self):
    """Returns the record. Interrupted passes through; whatever else goes wrong is in the record."""
    began = time.monotonic()
    try:
      self.attempt()
      self.record['state'] = 'failed' if self.record['problems'] else 'done'
    except Interrupted:
      raise
    except (Failure, LabError, OSError) as error:
      self.record['problems'].append(str(error))
    finally:
      for job in self.jobs:
        with contextlib.suppress(LabError):   # there is no lab any more
          job.end()
      self.keep()
    self.record['took_s'] = round(time.monotonic() - began, 3)
    return self.record

  def attempt(self):
    hosts = {node: Host(self.cluster.lab, node) for node in [self.cluster.head, *self.cluster.nodes]}
    self.start()
    before = {node: host.cpu_s() for node, host in hosts.items()}
    self.epoch, began = time.time(), time.monotonic()
    time.sleep(self.spec.start_s)
    self.migrate_all()
    if self.app.stop_file:
      with open(os.path.join(self.work, self.app.stop_file), 'w', encoding='ascii'):
        pass
    code = self.jobs[0].wait(self.spec.limit_s)
    self.record['wall_s'] = round(time.monotonic() - began, 3)
    self.record['cpu_s'] = {node: round(host.cpu_s() - before[node], 3) for node, host in hosts.items()}
    self.judge(code)

  def start(self):
    planned = self.planned
    self.app.prepare(self.work, self.cluster.environment, planned['containers'])
    description = self.app.job(self.work, planned['containers'])
    description.setdefault('nodes', self.cluster.nodes)
    self.start_job(self.app.name, description)
    # The study moved so many at once whatever the job had: the others are idle.
    idle = planned['at_once'] - planned['containers']
    if idle > 0:
      self.start_job('bystander', {
        'command': BYSTANDER_COMMAND, 'containers': idle, 'memory': '64MiB', 'nodes': self.cluster.nodes,
        'user': {'uid': 0, 'gid': 0}})
    ready = self.app.patterns.get('ready')
    if ready and not self.jobs[0].wait_until(lambda: ready.search(self.text()), 300, 'sign of being ready'):
      raise Failure('the job ended before it was ready:\n' + self.text()[-1500:])
    self.record['placed'] = {c: n for c, n in self.cluster.where().items() if c in self.containers()}

  def start_job(self, name, description):
    self.jobs.append(harness.Job(self.cluster, name, description))
    self.jobs[-1].wait_running(60)

  def containers(self):
    return [container for job in self.jobs for container in job.containers]

  def text(self):
    return self.jobs[0].text() + '\n' + self.app.logs(self.work)

  # ---- migrations

  def migrate_all(self):
    at_once, left = self.planned['at_once'], self.planned['cycles']
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max(at_once, 1)) as pool:
      while at_once and left:
        if self.jobs[0].ended():
          raise Failure(f'the job ended after {self.planned["cycles"] - left} of {self.planned["cycles"]} '
                        'migrations: give it a larger problem')
        self.spoil_once()
        self.migrate_group(pool, min(at_once, left))
        left -= min(at_once, left)
        if left:
          time.sleep(self.spec.pause_s)
    if at_once:
      self.record['migrating_s'] = round(time.monotonic() - began, 3)

  def spoil_once(self):
    if self.spec.spoil and not self.record.get('spoilt'):
      self.record['spoilt'] = spoil.do(self.spec.spoil, self.cluster, self.jobs[0].containers[0])

  def migrate_group(self, pool, count):
    """The next `count` containers in turn, each to the node after its own, all at once."""
    where, names = self.cluster.where(), self.containers()
    chosen = [names[(self.moved + i) % len(names)] for i in range(count)]
    self.moved += count
    missing = [name for name in chosen if name not in where]
    if missing:
      raise Failure(f'{", ".join(missing)} ended before the last migration: give the job a larger problem')
    states = {name: container_state.take(self.cluster, name, where[name]) for name in chosen}
    moves = list(pool.map(lambda name: self.migrate(name, where[name]), chosen))
    for name, (target, report) in zip(chosen, moves):
      entry = {'container': name, 'source': where[name], 'target': target, 'report': report,
               'at_s': round(report.pop('asked_at') - self.epoch, 3)}
      self.record['migrations'].append(entry)
      if report.get('outcome') != 'committed':
        why = report.get('error') or report.get('outcome')
        self.record['problems'].append(f'migration of {name} to {target} over {self.planned["fabric"]}: {why}')
        continue
      found = container_state.compare(self.cluster, name, target, states[name])
      if found and self.ends():
        continue   # what differs is what its end takes away
      entry['differences'] = found
      self.record['problems'] += [f'{name} after it was moved: {line}' for line in found]

  def ends(self, seconds=3):
    """Whether the job is over, or is just ending."""
    with contextlib.suppress(harness.Hang):
      self.jobs[0].wait(seconds)
    return self.jobs[0].ended()

  def migrate(self, name, here):
    nodes, asked = self.cluster.nodes, time.time()
    target = nodes[(nodes.index(here) + 1) % len(nodes)]
    report = self.cluster.migrate(name, target, self.planned['fabric'], self.spec.limit_s,
                                  self.planned['mode'])
    return target, {**report, 'asked_at': asked}

  # ---- results

  def judge(self, code):
    found = self.app.read(self.text(), self.work)
    self.record['problems'] += found.pop('wrong')
    for series in found['series']:
      series['points'] = [(round(at - self.epoch, 3), value) for at, value in series['points']]
    self.record.update(found)
    if self.record['time_s'] is None:
      self.record['time_s'] = self.record['wall_s']
    if code != 0:
      self.record['problems'].append(f'the job ended with status {code}')

  def keep(self):
    """The job's output and its files, into the run's directory."""
    if self.jobs:
      with open(os.path.join(self.directory, 'output.txt'), 'w', encoding='utf-8') as file:
        file.write(self.jobs[0].text() + '\n')
    names = os.listdir(self.work) if os.path.isdir(self.work) else []
    kept = os.path.join(self.directory, 'work')
    os.makedirs(kept, exist_ok=True)
    for name in names:
      path = os.path.join(self.work, name)
      if name not in (self.app.content.get('programs') or ()) and os.path.getsize(path) <= KEPT_BYTES:
        shutil.copy2(path, kept)
    if self.record['problems']:
      for node in [self.cluster.head, *self.cluster.nodes]:
        with open(os.path.join(self.directory, f'daemon-{node}.log'), 'w', encoding='utf-8') as file:
          file.write('\n'.join(self.cluster.daemon_log(node)) + '\n')
    shutil.rmtree(self.work, ignore_errors=True)
