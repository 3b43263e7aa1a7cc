"""`scripts/bench scale`: see there."""
import contextlib
import glob
import http.client
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from benchlib import figures
from benchlib.harness import Failure, say
from lablib import net
from lablib.base import die_with_parent, read
from lablib.daemon import Unix

HEAD, NODES = '10.64.0.1', '10.65.0.0/16'     # in 10.64.0.0/10, the fabric
PER_PROCESS = 250                             # nodes of a nodes_bench, which has one thread
LISTEN_WITHIN, SETTLE_WITHIN = 300, 120       # s
MISSED = 4                                    # s without a head, after which all nodes have missed it
FILES_SPARE = 1000                            # of the head, for connections that come and go


class Namespace:
  """A network of its own, which lasts as long as this program and what it has started there."""

  def __init__(self):
    self.child = subprocess.Popen(['unshare', '--net', 'sleep', 'infinity'], preexec_fn=die_with_parent)
    self.pid = self.child.pid
    while os.readlink(f'/proc/{self.pid}/ns/net') == os.readlink('/proc/self/ns/net'):
      time.sleep(0.01)

  def popen(self, *command, **options):
    return subprocess.Popen(['nsenter', f'--net=/proc/{self.pid}/ns/net', *command], preexec_fn=die_with_parent,
                            stdin=subprocess.DEVNULL, **options)

  def ip(self, *lines):
    net.batch(self, 'ip', lines, 'a network for the benchmark')

  def end(self):
    self.child.kill()
    self.child.wait()


def join(head, nodes):
  """A cable between the two; every address of NODES is the nodes'. A router between them saves the head a
  neighbour per node, of which kernels by default know 1024 (net.ipv4.neigh.default.gc_thresh3)."""
  head.ip('link set lo up', f'link add cable type veth peer name cable netns {nodes.pid}', 'link set cable up',
          f'address add {HEAD}/32 dev cable', 'address add 192.0.2.1/30 dev cable')
  nodes.ip('link set lo up', 'address add 192.0.2.2/30 dev cable', 'link set cable up',
           f'route add {HEAD}/32 via 192.0.2.1', f'route add local {NODES} dev lo')
  head.ip(f'route add {NODES} via 192.0.2.2 src {HEAD}')


def configuration(work, pki, count):
  lines = ['cluster: scale',
           f'paths: {{state_dir: {work}/state, run_dir: {work}/run, cgroup: {os.path.basename(work)}}}',
           'fabrics: [{name: net, bridge: br-net, subnet: 10.64.0.0/10, rate: 10Gbit}]',
           f'security: {{ca: {pki}/ca.crt, cert: {pki}/head.crt, key: {pki}/head.key}}', 'nodes:',
           f'- {{name: head, role: head, slots: 0, addresses: {{net: {HEAD}}}}}']
  lines += [f'- {{name: n{i}, memory: 64GiB, addresses: {{net: 10.65.{i >> 8}.{i & 255}}}}}'
            for i in range(1, count + 1)]
  return '\n'.join(lines) + '\n'


def samples(text):
  """{name with labels: value} of a page for Prometheus."""
  return {name: float(value) for name, value in re.findall(r'^([^#\s]+) (\S+)$', text, re.M)}


class Scene:
  """One head and so many nodes, from `with` to its end."""

  def __init__(self, args, count):
    self.args, self.count = args, count
    self.work = tempfile.mkdtemp(prefix='lifeboat-scale-')
    self.pki = tempfile.mkdtemp(prefix='lifeboat-scale-', dir='/dev/shm')  # each of its files is synced
    self.socket, self.log = f'{self.work}/run/api.sock', f'{self.work}/head.log'
    self.networks, self.plays, self.head = [], [], None
    self.leases = count
    self.errors = open(f'{self.work}/nodes.log', 'a', encoding='ascii')  # by __exit__

  def __enter__(self):
    try:
      self.networks = [Namespace(), Namespace()]
      join(*self.networks)
      self.program('pki', '--dir', self.pki, 'init', '--cluster', 'scale')
      self.program('pki', '--dir', self.pki, 'node', 'head', '--role', 'head')
      with open(f'{self.work}/lifeboat.yaml', 'w', encoding='ascii') as file:
        file.write(configuration(self.work, self.pki, self.count))
      self.play()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_):
    for child in [self.head, *self.plays]:
      if child is not None:
        child.kill()
        child.wait()
    for network in self.networks:
      network.end()
    self.errors.close()
    for directory in (self.pki, self.work):
      shutil.rmtree(directory, ignore_errors=True)

  def path(self, name):
    return os.path.join(self.args.build, name)

  def program(self, *words, timeout=120):
    done = subprocess.run([self.path('lifeboat'), *words], text=True, capture_output=True, check=False,
                          timeout=timeout)
    if done.returncode != 0:
      raise Failure(f'lifeboat {" ".join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}')
    return done.stdout

  def play(self):
    """Starts the nodes."""
    files = int(read('/proc/self/limits').split('Max open files')[1].split()[1])
    self.leases = min(self.count, self.args.leases, files - self.count - FILES_SPARE)
    firsts = range(0, self.count, PER_PROCESS)
    for first in firsts:
      here = min(PER_PROCESS, self.count - first)
      leases = max(0, min(here, self.leases - first))
      self.plays.append(self.networks[1].popen(
        self.path('nodes_bench'), '--config', f'{self.work}/lifeboat.yaml', '--pki', self.pki,
        '--metrics', f'{self.work}/nodes-{first}.prom', '--first', str(first), '--count', str(here),
        '--leases', str(leases), '--containers', str(self.args.containers), stdout=subprocess.DEVNULL,
        stderr=self.errors))
    self.wait(lambda: len(glob.glob(f'{self.work}/nodes-*.prom')) == len(firsts), LISTEN_WITHIN,
              'nodes that listen')

  def wait(self, condition, seconds, what):
    """How long it took; None: it did not come."""
    began = time.monotonic()
    while not condition():
      for child in self.plays:
        if child.poll() is not None:
          raise Failure(f'nodes_bench has ended with status {child.returncode}')
      if self.head is not None and self.head.poll() is not None:
        raise Failure(f'the head has ended:\n{read(self.log)[-2000:]}')
      if time.monotonic() > began + seconds:
        say(f'no {what} within {seconds} s')
        return None
      time.sleep(0.05 if self.count < 1000 else 0.5)  # a look costs the head's processors, too
    return time.monotonic() - began

  def told(self):
    """What the nodes have counted, all together."""
    out = {}
    for path in glob.glob(f'{self.work}/nodes-*.prom'):
      for name, value in samples(read(path)).items():
        out[name] = out.get(name, 0) + value
    return out

  # ---- the head

  def start(self):
    """Starts the head; how long until it had heard all nodes, and they had their leases, and had compared their
    containers with the registry; and what that cost it. The second time the nodes are there already."""
    before = self.told()
    def grown(name, by):
      return lambda: self.told().get(name, 0) >= before.get(name, 0) + by
    began = time.monotonic()
    with open(self.log, 'a', encoding='ascii') as log:
      self.head = self.networks[0].popen(self.path('lifeboatd'), '--config', f'{self.work}/lifeboat.yaml',
                                         '--node', 'head', stdout=log, stderr=log)
    out = {}
    for name, condition in (('ready_s', self.answers), ('heard_s', grown('bench_links_total', self.count)),
                            ('compared_s', grown('bench_compared_total', self.leases))):
      done = self.wait(condition, SETTLE_WITHIN, name)
      out[name] = None if done is None else round(time.monotonic() - began, 2)
    out['cpu_s'] = self.cpu_s()
    out['pages'] = self.registry_calls('page') - sum(
      value for name, value in before.items() if 'duration_seconds_count{operation="page"' in name)
    return out

  def answers(self):
    try:
      with contextlib.closing(Unix(self.socket, 5)) as connection:
        connection.request('GET', '/v1/status')
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
      return False

  def stop(self):
    self.head.send_signal(signal.SIGTERM)
    self.head.wait(60)

  def cpu_s(self):
    fields = read(f'/proc/{self.head.pid}/stat').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

  def wire(self):
    """Bytes received and sent by the head."""
    line = next(x for x in read(f'/proc/{self.head.pid}/net/dev').splitlines() if x.strip().startswith('cable:'))
    fields = line.split(':')[1].split()
    return int(fields[0]), int(fields[8])

  def registry_calls(self, operation=''):
    return sum(value for name, value in self.told().items()
               if 'duration_seconds_count' in name and f'operation="{operation}' in name)

  def downs(self):
    """Names of the nodes that were called down, one for each time."""
    return re.findall(r'node is not up node=(\S+) state=down', read(self.log))

  # ---- what is measured

  def idle(self):
    """Nobody looks: heartbeats and leases alone."""
    cpu, wire, calls, began = self.cpu_s(), self.wire(), self.registry_calls(), time.monotonic()
    time.sleep(self.args.seconds)
    took = time.monotonic() - began
    status = read(f'/proc/{self.head.pid}/status')
    received, sent = (now - before for now, before in zip(self.wire(), wire))
    return {'cpu_share': round((self.cpu_s() - cpu) / took, 4),
            'received_bytes_per_s': round(received / took), 'sent_bytes_per_s': round(sent / took),
            'registry_calls_per_s': round((self.registry_calls() - calls) / took, 1),
            'rss_mb': int(status.split('VmRSS:')[1].split()[0]) // 1024,
            'files': len(os.listdir(f'/proc/{self.head.pid}/fd'))}

  def looks(self, idle_share):
    """Somebody looks at all nodes, as an evacuation does before each plan. What the head needs anyway, a share of
    a processor, is not counted."""
    took, cpu, answered, wire = [], [], [], []
    for _ in range(self.args.repetitions):
      cpu_before, wire_before, began = self.cpu_s(), sum(self.wire()), time.monotonic()
      try:
        text = self.program('--socket', self.socket, 'nodes', '--json', timeout=SETTLE_WITHIN)
      except subprocess.TimeoutExpired:
        say(f'lifeboat nodes: no answer within {SETTLE_WITHIN} s')
        break
      took.append(time.monotonic() - began)
      cpu.append(self.cpu_s() - cpu_before - idle_share * took[-1])
      wire.append(sum(self.wire()) - wire_before)
      answered.append(text.count('"reachable":true') - 1)
    status = []
    for _ in range(20):
      began = time.monotonic()
      self.answers()
      status.append(1000 * (time.monotonic() - began))
    looked = {'nodes_s': round(statistics.median(took), 3), 'nodes_cpu_s': round(statistics.median(cpu), 3),
              'nodes_answered': min(answered), 'nodes_bytes': statistics.median(wire)} if took else {}
    return {**looked, 'status_ms': round(statistics.median(status), 2), 'status_longest_ms': round(max(status), 2)}

  def silence(self):
    """How long until the first node counts as down once it says nothing any more."""
    before = self.downs().count('n1')
    self.plays[0].send_signal(signal.SIGUSR1)
    took = self.wait(lambda: self.downs().count('n1') > before, 60, 'node that is down')
    self.plays[0].send_signal(signal.SIGUSR1)
    return {'down_s': None if took is None else round(took, 2)}


def planning(args, count):
  """Processor seconds of a plan for a fiftieth of the nodes, ten containers on each."""
  done = subprocess.run([os.path.join(args.build, 'plan_bench'), '--nodes', str(count), '--shape', 'roomy',
                         '--seeds', '3'], text=True, capture_output=True, check=True)
  line = next(x for x in done.stdout.splitlines() if 'planning, s' in x)
  return {'plan_cpu_s': float(line.split()[-2])}


def simulated(args, count):
  """Registry requests per migration, leases included, as `simulation` counts them."""
  done = subprocess.run([os.path.join(args.build, 'simulation'), '--runs', '1', '--seed', '5',
                         '--nodes', str(count), '--containers', str(4 * count),
                         '--migrations', str(min(20 * count, 20000))],
                        text=True, capture_output=True, check=False)
  found = re.search(r'([\d.]+) registry requests and ([\d.]+) swaps per migration', done.stdout)
  if not found:
    raise Failure(f'simulation: {done.stdout}{done.stderr}')
  return {'requests_per_migration': float(found[1]), 'swaps_per_migration': float(found[2])}


def measure(args, count):
  row = {'nodes': count, 'containers': count * args.containers, 'load_before': os.getloadavg()[0]}
  with Scene(args, count) as scene:
    row['leases'] = scene.leases
    row['start'] = scene.start()
    say(f'{count} nodes: started: {row["start"]}')
    row.update(scene.idle())
    row.update(scene.looks(row['cpu_share']))
    row.update(scene.silence())
    say(f'{count} nodes: {row}')
    row['wrongly_down'] = len(scene.downs()) - (row['down_s'] is not None)
    scene.stop()
    time.sleep(MISSED)
    known = len(scene.downs())
    row['restart'] = scene.start()
    say(f'{count} nodes: restarted: {row["restart"]}')
    row['wrongly_down'] += len(scene.downs()) - known
    scene.stop()
  if not args.only_head:
    row.update(planning(args, count))
    row.update(simulated(args, count))
  return row


LINES = (('leases', 'nodes with a lease'), ('start.heard_s', 'start: all heard, s'),
         ('start.compared_s', 'start: all compared with the registry, s'), ('start.cpu_s', 'start: processor, s'),
         ('restart.heard_s', 'restart: all heard, s'), ('restart.compared_s', 'restart: all compared, s'),
         ('restart.cpu_s', 'restart: processor, s'), ('restart.pages', 'restart: pages of records read'),
         ('cpu_share', 'idle: processors'), ('received_bytes_per_s', 'idle: received, B/s'),
         ('sent_bytes_per_s', 'idle: sent, B/s'), ('registry_calls_per_s', 'idle: registry requests/s'),
         ('rss_mb', 'memory, MB'), ('files', 'descriptors'), ('nodes_s', 'lifeboat nodes, s'),
         ('nodes_cpu_s', 'lifeboat nodes: processor, s'), ('nodes_bytes', 'lifeboat nodes: bytes'),
         ('nodes_answered', 'lifeboat nodes: answered'), ('status_ms', 'GET /v1/status, ms'),
         ('status_longest_ms', 'the longest of 20'), ('down_s', 'silent until down, s'),
         ('wrongly_down', 'wrongly down'),
         ('plan_cpu_s', 'plan: processor, s'), ('requests_per_migration', 'registry requests/migration'),
         ('swaps_per_migration', 'swaps/migration'))


def value(row, path):
  for name in path.split('.'):
    row = row.get(name) if row else None
  return '-' if row is None else row


def main(args):
  about = figures.machine(args.build)
  rows = [measure(args, count) for count in args.nodes]
  print(f'\n{args.containers} containers on each node; idle for {args.seconds} s; load before: '
        f'{about["load_before"]:.1f}')
  print(figures.table([['', *(str(row['nodes']) for row in rows)]] +
                      [[label, *(value(row, path) for row in rows)] for path, label in LINES]))
  figures.save(args.json, {'benchmark': 'scale', 'environment': about, 'rows': rows})
  return 0
