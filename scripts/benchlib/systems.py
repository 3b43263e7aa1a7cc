"""The three systems that `scripts/bench migrate` compares, behind one face.

A run of a system is: `start` the memory program in two containers, `move` one of them once, `stop`
it, which verifies its memory and messages. `move` returns what the system says of the migration;
what the application noticed is read from its output, the same way for all.
"""
import copy
import ipaddress
import os
import shutil
import time

import yaml

from benchlib import baseline, harness, memory, programs
from benchlib.harness import MB, Failure
from benchlib.host import Host
from lablib.base import read

OVERHEAD_MB = 320   # of a container, beside its memory: libraries, Hydra's proxy, page tables
JOB = 'bench'


class Lifeboat:
  """`lifeboat run` and `lifeboat migrate`. `spec` overrides what is in the job's description, such as
  the number of containers and where they are; anything but a pair of containers is an MPI job."""

  def __init__(self, cluster, mode, spec=None):
    self.cluster, self.mode, self.job, self.spec = cluster, mode, None, spec or {}
    self.ranks = self.spec.get('containers', 2) * self.spec.get('ranks_per_container', 1)
    self.name, self.work = 'lifeboat', os.path.join(cluster.work, 'job')

  def start(self, load):
    os.makedirs(self.work)
    shutil.copy2(self.cluster.program, os.path.join(self.work, 'memory'))
    fabric = self.cluster.lab.state['default_fabric']
    command = memory.command(load, None if load.get('mpi') else fabric)
    self.job = harness.Job(self.cluster, JOB, {
      'command': command, 'containers': 2, 'memory': f'{load["mb"] + OVERHEAD_MB}MiB',
      'nodes': self.cluster.nodes[:2], 'mounts': [{'source': self.work, 'target': '/work'}],
      'user': {'uid': 0, 'gid': 0}, **self.spec})
    if not self.job.wait_until(lambda: 'memory ready' in self.text(), 240, '"memory ready"'):
      raise Failure(f'the job ended at once:\n{self.job.text()}\n{self.text()}')

  def text(self):
    return memory.output(self.work, self.ranks)

  def move(self, target, fabric, index=0):
    mover = self.job.containers[index]
    report = self.cluster.ask('migrate', mover, '--to', target, '--fabric', fabric, '--mode', self.mode,
                              timeout=900)
    if report.get('outcome') != 'committed':
      raise Failure(f'migration of {mover} to {target} over {fabric}: {report}')
    return {'bytes': report['bytes_sent'], 'total_ms': report['total_ms'],
            'frozen_bytes': report['frozen_bytes'] or report['bytes_sent'],
            'reported_downtime_ms': report['downtime_ms'], 'parts_ms': report['downtime_parts_ms'],
            'resident_bytes': report['resident_bytes'], 'report': report}

  def watch(self, target, fabric):
    """What a migration would find: its writes are tracked for a second, and nothing is sent."""
    return self.cluster.ask('migrate', self.job.containers[0], '--to', target, '--fabric', fabric,
                            '--mode', self.mode, '--dry-run', timeout=60)

  def stop(self):
    with open(os.path.join(self.work, 'stop'), 'w', encoding='ascii'):
      pass
    code = self.job.wait(240)
    if code != 0 or 'memory ok' not in self.text():
      raise Failure(f'the job ended with status {code}:\n{self.job.text()[-1500:]}\n{self.text()[-1500:]}')

  def remove(self):
    if self.job is not None:
      self.job.end()
      self.job = None
    shutil.rmtree(self.work, ignore_errors=True)


class Stock:
  """runc with CRIU as it is: `how` is one of baseline's."""

  def __init__(self, cluster, name, how):
    self.cluster, self.name, self.how, self.pair = cluster, name, how, None
    self.mode = 'stop-and-copy' if name == 'runc' else 'lazy-pages'
    self.hosts = {node: Host(cluster.lab, node) for node in cluster.nodes}

  def start(self, load):
    nodes = self.cluster.nodes
    self.pair = baseline.Pair(self.cluster, load, [self.hosts[nodes[0]], self.hosts[nodes[1]]],
                              self.cluster.subnets[self.cluster.lab.state['default_fabric']])
    self.pair.start()
    end = time.monotonic() + 240
    while 'memory ready' not in self.text():
      if time.monotonic() > end or not self.pair.running():
        raise Failure(f'{self.name}: the program did not start:\n{self.text()}')
      time.sleep(0.1)

  def text(self):
    return self.pair.text()

  def move(self, target, fabric):
    out = self.pair.move(self.hosts[target], fabric, self.how)
    # What was prepared before the dump is not counted: we did that, not they.
    out['total_ms'] = sum(out['parts_ms'].values())
    return out

  def stop(self):
    self.pair.stop()
    end = time.monotonic() + 240
    while 'memory ok' not in self.text():
      if time.monotonic() > end or 'WRONG' in self.text() or not self.pair.running():
        time.sleep(0.2)
        if 'memory ok' in self.text():
          return
        raise Failure(f'{self.name}: the program did not end well:\n{self.text()[-1500:]}')
      time.sleep(0.1)

  def remove(self):
    if self.pair is not None:
      self.pair.remove()
      self.pair = None


def make(cluster, names, modes):
  """[system] of the names asked for, Lifeboat once for each of the modes."""
  out = []
  for name in names:
    if name == 'lifeboat':
      out += [Lifeboat(cluster, mode) for mode in modes]
    elif name == 'runc':
      out.append(Stock(cluster, name, baseline.by_runc))
    elif name == 'criu-lazy':
      out.append(Stock(cluster, name, baseline.lazily))
    else:
      raise Failure(f'no system {name!r}; there are lifeboat, runc and criu-lazy')
  return out


class BenchCluster(harness.Cluster):
  """A lab for benchmarks: its nodes claim more memory than they could ever need, as what the machine
  has is checked per run; `lifeboat` is merged into every daemon's configuration."""

  def __init__(self, args, lifeboat=None):
    super().__init__(copy.copy(args))
    with open(args.file, encoding='utf-8') as file:
      described = yaml.safe_load(file)
    for node in described['nodes']:
      if node.get('role') != 'head':
        node.update(memory='256GiB', slots=64)
    config = described.get('lifeboat') or {}
    for key, value in (lifeboat or {}).items():
      config[key] = {**config.get(key, {}), **value}
    described['lifeboat'] = config
    self.args.file = os.path.join(self.work, 'bench-lab.yaml')
    with open(self.args.file, 'w', encoding='utf-8') as file:
      yaml.safe_dump(described, file)
    self.rates = {f['name']: harness.rate_of(f['rate']) for f in described['fabrics']}
    self.subnets = {f['name']: ipaddress.IPv4Network(f['subnet']) for f in described['fabrics']}
    self.program = programs.build(self.environment, 'memory')

  def choose_fabrics(self, wanted):
    for fabric in wanted or ():
      if fabric not in self.rates:
        raise Failure(f'the lab has no fabric {fabric!r}; there are {", ".join(self.rates)}')
    return wanted or list(self.rates)


def memory_free_mb():
  fields = dict(line.split(':') for line in read('/proc/meminfo').splitlines())
  return int(fields['MemAvailable'].split()[0]) * 1024 // MB


def with_writer(cluster, mode, settings, before_s, act):
  """Does something with one writer of memory, alone, after so many seconds: (what `act(system)` returns, how
  many seconds it took as seen from outside, pages it wrote per second before it, the same meanwhile); None
  where its own reports do not cover that."""
  system = Lifeboat(cluster, mode)
  try:
    system.start(settings)
    memory.wait_alive(system.text, time.time())  # its first word may be late
    memory.wait_alive(system.text, time.time() + before_s)
    began = time.time()
    result = act(system)
    ended = time.time()
    memory.wait_alive(system.text, ended + 1)
    system.stop()
    return (result, ended - began, memory.pages_per_s(system.text(), began - before_s + 1, began),
            memory.pages_per_s(system.text(), began, ended))
  finally:
    system.remove()


def move_writer(cluster, mode, settings, fabric, before_s):
  """with_writer(): moves it; the report of the migration."""
  return with_writer(cluster, mode, settings, before_s,
                     lambda system: system.move(cluster.nodes[-1], fabric)['report'])


def watch_writer(cluster, settings, fabric, before_s, times):
  """with_writer(): tracks its writes so many times, and moves it nowhere; what was found each time."""
  return with_writer(cluster, 'pre-copy', settings, before_s,
                     lambda system: [system.watch(cluster.nodes[-1], fabric) for _ in range(times)])
