"""What the benchmarks and the soak share: a lab of their own, the operator's commands, HPL's input.

Everything is done with `lifeboat`, as an operator would do it. It talks to the head's daemon over
the socket in the head's mount namespace, which saves entering the node for each command.
"""
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from lablib import cgroup, systemd
from lablib.base import LabError, read
from lablib.cluster import Lab
from lablib.daemon import SOCKET, Unix

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = ('freeze', 'dump', 'transfer', 'restore', 'network', 'resume')
MB = 10 ** 6


class Failure(Exception):
  """Something that must not happen has happened; the text is all there is to tell."""


class Hang(Failure):
  """Something does not end, or makes no progress."""


class Interrupted(Failure):
  """A signal has ended it: nothing more is to be tried."""


def say(text):
  print(f'{time.strftime("%H:%M:%S")} {text}', flush=True)


def default_build():
  for sub in ('build/release/bin', 'build/dev/bin', 'build'):
    if os.access(os.path.join(ROOT, sub, 'lifeboatd'), os.X_OK):
      return os.path.join(ROOT, sub)
  return os.path.join(ROOT, 'build/release/bin')


def setup_environment():
  """What `scripts/setup --print-env` says, as a dictionary."""
  done = subprocess.run([os.path.join(ROOT, 'scripts/setup'), '--print-env'], text=True,
                        capture_output=True, check=False, timeout=60)
  if done.returncode != 0:
    raise Failure(done.stderr.strip())
  return dict(word.split('=', 1) for word in shlex.split(done.stdout))


def add_arguments(parser, name):
  parser.add_argument('--name', default=name, help=f'the lab that is made for it (default: {name})')
  parser.add_argument('--build', default=default_build(), help='where lifeboat and lifeboatd are')
  parser.add_argument('--file', default=os.path.join(ROOT, 'configs', 'lab.yaml'),
                      help='what the lab consists of (default: configs/lab.yaml)')
  parser.add_argument('--systemd', action='store_true',
                      help='its nodes run systemd and the units of configs/systemd, with what these forbid')
  parser.add_argument('--keep', action='store_true', help='leave the lab up at the end')


def end_on_signals():
  """SIGTERM and SIGHUP end the program as SIGINT does: the lab is taken down."""
  def interrupted(signo, _):
    raise Interrupted(f'interrupted by {signal.Signals(signo).name}')
  for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signo, interrupted)


def rate_of(text):
  """Bits per second of "10Gbit"."""
  for unit, factor in (('gbit', 10 ** 9), ('mbit', 10 ** 6)):
    if text.lower().endswith(unit):
      return float(text[:-len(unit)]) * factor
  raise Failure(f'cannot read the rate {text!r}')


class Cluster:
  """A lab with daemons, from `with` to its end, and the operator's commands on its head."""

  def __init__(self, args):
    self.args = args
    self.build = os.path.abspath(args.build)
    self.lab = Lab(args.name)
    self.environment = setup_environment()
    self.work = tempfile.mkdtemp(prefix=f'lifeboat-{args.name}-')

  def __enter__(self):
    try:
      path = os.pathsep.join([os.path.dirname(self.environment['CRIU']), os.environ['PATH']])
      os.environ['PATH'] = path  # the daemons look for criu there
      self.lab.up(self.args.file, self.build, True, True, self.args.systemd)
    except BaseException:
      shutil.rmtree(self.work)
      raise
    nodes = self.lab.state['nodes']
    self.head = next(n['name'] for n in nodes if n['role'] == 'head')
    self.nodes = [n['name'] for n in nodes if n['role'] == 'compute']
    self.fabrics = self.lab.state['fabrics']
    return self

  def __exit__(self, *_):
    if not self.args.keep:
      with contextlib.suppress(LabError):
        self.lab.down()
    shutil.rmtree(self.work, ignore_errors=True)

  # ---- commands

  def command(self, *words):
    socket = f'/proc/{self.lab.running(self.head).pid}/root{SOCKET}'
    return [os.path.join(self.build, 'lifeboat'), '--socket', socket, *words]

  def ask(self, *words, timeout=60):
    """The JSON that a command prints, whatever its exit status."""
    try:
      done = subprocess.run(self.command(*words, '--json'), text=True, capture_output=True,
                            check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
      raise Hang(f'lifeboat {" ".join(words)} does not end in {timeout} s') from None
    try:
      return json.loads(done.stdout)
    except ValueError:
      raise Failure(f'lifeboat {" ".join(words)}: status {done.returncode}, said '
                    f'{done.stdout + done.stderr!r}') from None

  def migrate(self, container, target, fabric, timeout=300, mode=None):
    """The report of one migration; {"error": {...}} if it was refused."""
    words = ['--mode', mode] if mode else []
    report = self.ask('migrate', container, '--to', target, '--fabric', fabric, *words,
                      timeout=timeout)
    report['asked'] = f'{container} to {target} over {fabric}'
    return report

  def api(self, method, path, body, node):
    """The answer of a node's daemon, whatever its status."""
    connection = Unix(f'/proc/{self.lab.running(node).pid}/root{SOCKET}', 15)
    with contextlib.closing(connection):
      connection.request(method, path, json.dumps(body) if body is not None else None)
      return json.loads(connection.getresponse().read())

  def where(self):
    """{container: node} of those that run."""
    return {c['id']: c['node'] for c in self.ask('ps')['containers'] if c['state'] == 'running'}

  def snapshot(self):
    done = subprocess.run([os.path.join(ROOT, 'scripts/lab'), '--name', self.lab.name, 'snapshot',
                           '--json'], text=True, capture_output=True, check=True, timeout=60)
    path = os.path.join(self.work, 'snapshot.json')
    with open(path, 'w', encoding='utf-8') as file:
      file.write(done.stdout)
    return path

  def leftovers(self, path, expected, seconds=10):
    """Lines of `lab snapshot --diff` but those that are `expected`; waits a while for none."""
    end = time.monotonic() + seconds
    while True:
      done = subprocess.run([os.path.join(ROOT, 'scripts/lab'), '--name', self.lab.name, 'snapshot',
                             '--diff', path], text=True, capture_output=True, check=False,
                            timeout=60)
      lines = (done.stdout + done.stderr).splitlines() if done.returncode != 0 else []
      kept = systemd.KEPT if self.args.systemd else ()
      left = [line for line in lines if not expected(line) and not any(re.match(text, line) for text in kept)]
      if not left or time.monotonic() > end:
        return left
      time.sleep(0.5)

  # ---- what is behind it

  def daemons(self):
    """{node: {pid, rss_kb, files, threads}}"""
    out = {}
    for node in [self.head, *self.nodes]:
      proc = self.lab.daemon(node).proc()
      if proc is None:
        raise Failure(f'lifeboatd of {node} has ended; its log ends with:\n' +
                      '\n'.join(self.daemon_log(node)[-20:]))
      status = dict(line.split(':', 1) for line in read(f'/proc/{proc.pid}/status').splitlines())
      out[node] = {'pid': proc.pid, 'rss_kb': int(status['VmRSS'].split()[0]),
                   'files': len(os.listdir(f'/proc/{proc.pid}/fd')),
                   'threads': int(status['Threads'])}
    return out

  def daemon_log(self, node):
    if self.args.systemd:
      return self.lab.daemon(node).inside('journalctl', '-u', 'lifeboatd', '-o', 'cat', '--no-pager').splitlines()
    return read(os.path.join(self.lab.node_dir(node), 'lifeboatd.log'), '').splitlines()

  def cgroup_of(self, container, node):
    two, _ = cgroup.hierarchies()
    path = os.path.join(two, self.lab.containers_of(node), container)
    if not os.path.isdir(path):
      raise Failure(f'{path}: no such cgroup')
    return path

  def pids_of(self, container, node):
    with contextlib.suppress(Failure):
      return cgroup.members(self.cgroup_of(container, node))
    return []


class Job:
  """`lifeboat run`, followed: its output so far, when it last said something, how it ended."""

  def __init__(self, cluster, name, spec):
    self.cluster, self.name = cluster, name
    path = os.path.join(cluster.work, f'{name}.yaml')
    with open(path, 'w', encoding='utf-8') as file:
      json.dump({'name': name, 'bundle': cluster.environment['BUNDLE'], **spec}, file)  # is YAML
    self.containers = [f'{name}-{i}' for i in range(spec['containers'])]
    self.lines, self.said, self.started = [], time.monotonic(), time.monotonic()
    self.child = subprocess.Popen(cluster.command('run', path), stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
    self.reader = threading.Thread(target=self.follow, daemon=True)
    self.reader.start()

  def follow(self):
    for line in self.child.stdout:
      self.lines.append(line.rstrip('\n'))
      self.said = time.monotonic()

  def text(self):
    return '\n'.join(self.lines)

  def ended(self):
    return self.child.poll() is not None

  def silent_for(self):
    return time.monotonic() - self.said

  def exit_code(self):
    self.reader.join(10)
    return self.child.returncode

  def wait_until(self, condition, seconds, what):
    """Until condition() holds or the job has ended; Hang after so long without."""
    end = time.monotonic() + seconds
    while not condition():
      if self.ended():
        self.exit_code()
        return condition()
      if time.monotonic() > end:
        raise Hang(f'job {self.name}: no {what} within {seconds} s')
      time.sleep(0.05)
    return True

  def wait_running(self, seconds=30):
    def runs():
      where = self.cluster.where()
      return all(container in where for container in self.containers)
    if not self.wait_until(runs, seconds, 'running containers'):
      raise Failure(f'job {self.name} did not start:\n{self.text()}')

  def wait(self, seconds):
    self.wait_until(self.ended, seconds, 'end')
    return self.exit_code()

  def kill(self):
    if not self.ended():
      self.child.send_signal(signal.SIGTERM)
      with contextlib.suppress(subprocess.TimeoutExpired):
        self.child.wait(15)


  def end(self):
    """Ends it if it still runs, and waits until another of its name can start."""
    if not self.ended():
      with contextlib.suppress(Failure):
        self.cluster.ask('kill', self.name)
      with contextlib.suppress(Failure):
        self.wait(30)
    self.kill()
