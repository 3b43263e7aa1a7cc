#!/usr/bin/python3
"""What operators do wrong and what breaks under them, against one lab with real jobs.

Every bad input gets a clear error, every failure leaves exactly one live copy of the container, the
job goes on to PASSED, and nothing is left behind. One line per case; the last line is
"N passed, N failed, N skipped". Exit status: 0 passed, 1 failed, 77 skipped.

  tests/lab/operator_test.py [GROUP...]     all groups, or those named

  LIFEBOAT_TEST_BUILD   where lifeboatd and lifeboat are (default: build/dev/bin)
  LIFEBOAT_TEST_SEED    repeats the random moments of an earlier run
  LIFEBOAT_TEST_SYSTEMD 1: the lab's nodes run systemd and the units (of each of these tests that has a lab)
  LIFEBOAT_TEST_MODE    mode of every migration that does not say it (default: the daemon's)
"""
import contextlib
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'scripts'))
from lablib import systemd
from lablib.hpl import hpl_input, hpl_residuals

BUILD = os.path.abspath(os.environ.get('LIFEBOAT_TEST_BUILD')
                        or os.path.join(ROOT, 'build', 'dev', 'bin'))
MODE = os.environ.get('LIFEBOAT_TEST_MODE')  # of every migration that does not say it
SEED = int(os.environ.get('LIFEBOAT_TEST_SEED') or random.randrange(10**6))
with open(os.path.join(ROOT, 'src/migration/protocol.hpp'), encoding='utf-8') as _header:
  VERSION = int(re.search(r'kVersion = (\d+)', _header.read())[1])   # of the protocol
COMPUTE = ('n1', 'n2', 'n3', 'small', 'full', 'old', 'dies', 'exits', 'slow')

# Of every lab that tests make.
FABRICS_YAML = '''
fabrics:
  - {name: 1g, subnet: 10.1.0.0/16, rate: 1Gbit, burst: 512kb}
  - {name: 10g, subnet: 10.2.0.0/16, rate: 10Gbit, burst: 4mb}
  - {name: 100m, subnet: 10.3.0.0/16, rate: 100Mbit, burst: 128kb}
default_fabric: 10g
'''

# Steps are bounded here by seconds, so that a failure is noticed within a test.
# For files of groups that need nodes of one kind; what `lifeboat:` is to be comes after it.
THREE_NODES_YAML = FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB, slots: 8}
  - {name: n2, memory: 8GiB, slots: 8}
  - {name: n3, memory: 8GiB, slots: 8}
'''
UP_OPTIONS = ()   # of scripts/lab up
LAB_YAML = FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB, slots: 8}
  - {name: n2, memory: 8GiB, slots: 8}
  - name: n3
    memory: 8GiB
    slots: 8
    lifeboat: {security: {admin_group: daemon, read_group: bin}}
  - {name: small, memory: 64MiB, slots: 8}
  - {name: full, memory: 8GiB, slots: 1}
  - {name: old, memory: 8GiB, slots: 8, lifeboat: {paths: {criu: WORK/criu-old}}}
  - {name: dies, memory: 8GiB, slots: 8, lifeboat: {paths: {criu: WORK/criu-dies}}}
  - {name: exits, memory: 8GiB, slots: 8, lifeboat: {paths: {criu: WORK/criu-exits, crun: WORK/crun-late}}}
  - {name: slow, memory: 8GiB, slots: 8, lifeboat: {paths: {criu: WORK/criu-slow}}}
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 3s}
  health: {probation: 0s}
  security: {pages: encrypted}
  metrics: {listen: 127.0.0.1:9464}
'''

# Stand-ins for CRIU: too old; killed in the middle of its work; ended before it has said anything;
# slow, to hit it while it works.
CRIU_OLD = '#!/bin/sh\necho "Version: 2.6"\n'
# CRIU is started before there is something to do: `hit PID SIGN DO...` waits until PID has opened the file
# SIGN, or, if that is `frozen`, until the container is, and then sends signals and sleeps. A restore takes
# 20 ms, and CRIU goes before others.
HIT = '''#!/usr/bin/python3 -S
import os, signal, sys, time
pid, sign = int(sys.argv[1]), sys.argv[2]
os.setpriority(os.PRIO_PROCESS, 0, -20)
# The container's cgroup: this process has no business in it.
root = '/sys/fs/cgroup/unified' if os.path.isdir('/sys/fs/cgroup/unified') else '/sys/fs/cgroup'
with open('/proc/self/cgroup') as file:
  cgroup = [line for line in file.read().split() if line.startswith('0::')][0][3:]
with open(root + '/cgroup.procs', 'w') as file:
  file.write('0')

def seen():
  if sign == 'frozen':
    with open(f'{root}{cgroup}/cgroup.events') as file:
      return 'frozen 1' in file.read()
  return any(os.readlink(f'/proc/{pid}/fd/{fd}').endswith(sign) for fd in os.listdir(f'/proc/{pid}/fd'))

while os.path.isdir(f'/proc/{pid}'):
  try:
    if seen():
      break
  except OSError:
    pass
  time.sleep(0.0005)
for do in sys.argv[3:]:
  if not os.path.isdir(f'/proc/{pid}'):
    break
  if do.isalpha():
    os.kill(pid, getattr(signal, 'SIG' + do))
  else:
    end = time.time() + float(do)
    while time.time() < end and os.path.isdir(f'/proc/{pid}'):
      time.sleep(0.0005)
'''
# Killed by the kernel, so that no other process has to be in time for it: dumping, at its first page; restoring,
# when it has its tasks stop to let them go.
CRIU_DIES = '''#!/usr/bin/python3 -S
import ctypes, os, struct, sys
SPLICE, PTRACE, PTRACE_SYSCALL = 275, 101, 24
if sys.argv[1] == 'swrk':
  program = b''.join(struct.pack('HBBI', *line) for line in (
    (0x20, 0, 0, 0), (0x15, 4, 0, SPLICE), (0x15, 0, 2, PTRACE),  # the system call's number
    (0x20, 0, 0, 16), (0x15, 1, 0, PTRACE_SYSCALL),  # its first argument
    (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x80000000)))  # let it; kill the process
  text = ctypes.create_string_buffer(program)
  filter = struct.pack('HP', len(program) // 8, ctypes.addressof(text))
  if ctypes.CDLL(None, use_errno=True).prctl(22, 2, filter):  # PR_SET_SECCOMP: as a filter
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv('REAL', ['REAL', *sys.argv[1:]])
'''
CRIU_EXITS = '#!/bin/sh\n[ "$1" != swrk ] || exit 1\nexec REAL "$@"\n'
# It stands still once it restores, for two seconds, or as many as a file `still` says; with a file `held`, once it
# holds what it has restored, for longer than anybody waits.
CRIU_SLOW = '''#!/bin/sh
# Not as a child of what becomes CRIU, which fails when one ends.
[ "$1" != swrk ] || if [ -e WORK/held ]; then
  ( WORK/hit $$ frozen STOP 20 CONT 3>&- > /dev/null 2>&1 & )
else
  ( WORK/hit $$ restore.log STOP "$(cat WORK/still 2> /dev/null || echo 2)" CONT 3>&- > /dev/null 2>&1 & )
fi
exec REAL "$@"
'''

# What stays on purpose: a job's record and output, how migrations ended, who owned what, states of nodes
# and what their predictors learned, empty parents.
KEPT = (
  r'nodes\.\w+\.files: . /var/lib/lifeboat/(jobs(/.*)?|node-states\.jsonl|predictor\.json)$',
  r'nodes\.\w+\.files: . /var/lib/lifeboat/(registry\.db(-wal)?|migrations\.jsonl|outcomes(/.*)?)$',
  r'nodes\.\w+\.files: . /run/lifeboat/(crun|images|containers|outcomes(/.*)?)$',
  r'nodes\.\w+\.files: . /run/lifeboat(/api\.sock|/lifeboat\.yaml)?$',
  r'nodes\.\w+\.cgroups: . \w*:containers$',
)


def under_systemd():
  """From now on labs have nodes that run systemd, and the daemon what its unit leaves it."""
  global UP_OPTIONS, KEPT
  UP_OPTIONS, KEPT = ('--systemd',), KEPT + systemd.KEPT


if os.environ.get('LIFEBOAT_TEST_SYSTEMD'):
  under_systemd()


def skip(reason):
  print(f'SKIP: {reason}')
  sys.exit(77)


def wait_for(what, seconds, condition, pause=0.05):
  """The first true value of `condition`; an AssertionError naming `what` if a look later than after `seconds` does
  not see one."""
  end = time.monotonic() + seconds
  while True:
    late = time.monotonic() > end
    value = condition()
    if value:
      return value
    if late:
      raise AssertionError(f'not within {seconds} s: {what() if callable(what) else what}')
    time.sleep(pause)


class Cluster:
  """The lab that all groups share, made anew after a group that failed."""

  def __init__(self):
    self.work = tempfile.mkdtemp(prefix='lifeboat-operator-')
    os.environ['LIFEBOAT_LAB_DIR'] = os.path.join(self.work, 'labs')
    self.name = f'op-{os.getpid()}'
    self.file = os.path.join(self.work, 'lab.yaml')
    self.dirty = True
    self.job = None  # whose containers are looked at
    self.clean = os.path.join(self.work, 'clean.json')
    env = dict(line.split('=', 1) for line in subprocess.run(
      [f'{ROOT}/scripts/setup', '--print-env'], text=True, check=True, timeout=60,
      stdout=subprocess.PIPE).stdout.splitlines())
    self.bundle, self.criu = env['BUNDLE'], env['CRIU']
    self.write('lab.yaml', LAB_YAML.replace('WORK', self.work))
    self.write('hit', HIT, 0o755)
    for name, text in (('old', CRIU_OLD), ('dies', CRIU_DIES), ('exits', CRIU_EXITS),
                       ('slow', CRIU_SLOW)):
      self.write('criu-' + name, text.replace('REAL', self.criu).replace('WORK', self.work), 0o755)
    self.write('crun-late', '#!/bin/sh\ncrun "$@"\nstatus=$?\nsleep 0.3\nexit $status\n', 0o755)

  def write(self, name, text, mode=0o644):
    path = os.path.join(self.work, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
      file.write(text)
    os.chmod(path, mode)
    return path

  # ---- scripts/lab

  def command(self, *args, seconds=60):
    return ['timeout', '-k', '5', str(seconds), f'{ROOT}/scripts/lab', '--name', self.name, *args]

  def run(self, *args, seconds=60):
    """(exit status, stdout, stderr)"""
    done = subprocess.run(self.command(*args, seconds=seconds), text=True, capture_output=True,
                          check=False, stdin=subprocess.DEVNULL, timeout=seconds + 10)
    return done.returncode, done.stdout, done.stderr

  def must(self, *args, seconds=60):
    code, out, error = self.run(*args, seconds=seconds)
    if code != 0:
      raise AssertionError(f'scripts/lab {" ".join(args)}: exit status {code}: {out}{error}')
    return out

  def lifeboat(self, *args, seconds=60):
    if args[:1] == ('migrate',) and MODE and '--mode' not in args:
      args = (*args, '--mode', MODE)
    return self.run('exec', 'head', 'lifeboat', *args, seconds=seconds)

  def up(self):
    if self.dirty:
      self.must('up', '--replace', '--file', self.file, '--build', BUILD, *UP_OPTIONS, seconds=180)
      with open(self.clean, 'w', encoding='utf-8') as file:
        file.write(self.must('snapshot', '--json'))
      self.dirty = False

  def known_as_up(self, node):
    """Waits until the head has heard of a daemon that was started: before that it sends it nothing."""
    wait_for(f'{node} known as up', 60, lambda: self.api('GET', f'/v1/nodes/{node}')[1].get('state') == 'up')

  def remove(self):
    self.run('down')
    shutil.rmtree(self.work, ignore_errors=True)

  def state(self):
    from lablib.cluster import Lab
    return Lab(self.name).load()

  def pid(self, node):
    return self.state().init(node).pid

  def inside(self, node, path):
    return f'/proc/{self.pid(node)}/root{path}'

  def daemon(self, node):
    """Its process; None when there is none."""
    return self.state().daemon(node).proc()

  def crash(self, *nodes):
    """kill -9 of their daemons, without the detour of starting scripts/lab; returns once they are
    gone: one that holds memory takes a while to give it back."""
    from lablib import base
    left = base.kill_all([proc for node in nodes if (proc := self.daemon(node))])
    if left:
      raise AssertionError(f'still there 10 s after SIGKILL: {left}')

  def log(self, node):
    state = self.state()
    if state.runs_systemd(node):
      return state.daemon(node).inside('journalctl', '-u', 'lifeboatd', '-o', 'cat', '--no-pager')
    with open(f'{state.node_dir(node)}/lifeboatd.log', encoding='utf-8') as file:
      return file.read()

  # ---- the daemons' API

  def api(self, method, path, body=None, node='head'):
    """(HTTP status, answer)"""
    from lablib.daemon import Unix
    connection = Unix(self.inside(node, '/run/lifeboat/api.sock'), 15)
    try:
      text = body if body is None or isinstance(body, str) else json.dumps(body)
      connection.request(method, path, text)
      answer = connection.getresponse()
      return answer.status, json.loads(answer.read() or b'null')
    finally:
      connection.close()

  def start_migration(self, container, to, fabric='10g', **more):
    mode = {'mode': MODE} if MODE else {}
    status, answer = self.api('POST', f'/v1/containers/{container}/migrate',
                              {'to': to, 'fabric': fabric, **mode, **more})
    if status != 200:
      raise AssertionError(f'migrate {container} to {to}: {answer}')
    return answer['id']

  def migration(self, migration):
    return self.api('GET', f'/v1/migrations/{migration}')[1]

  def containers(self):
    """{id: [entry...]} over all nodes; entries on nodes that do not answer are missing."""
    found = {}
    for entry in self.api('GET', '/v1/containers')[1]['containers']:
      found.setdefault(entry['id'], []).append(entry)
    return found

  def where(self, container):
    return [entry['node'] for entry in self.containers().get(container, [])]

  # ---- the truth, not asked from the daemons

  def copies(self, container):
    """(node, number of processes, frozen) of every cgroup of that name that has processes but CRIU's, which
    waits there at a target for the images."""
    from lablib import base, cgroup

    def is_criu(pid):
      try:
        return os.path.basename(os.readlink(f'/proc/{pid}/exe')) == 'criu'
      except OSError:
        return False
    found, state = [], self.state()
    for node in COMPUTE:
      for path in cgroup.trees(f'{state.containers_of(node)}/{container}'):
        tasks = [pid for pid in base.read(f'{path}/cgroup.procs', '').split() if not is_criu(pid)]
        if tasks:
          found.append((node, len(tasks), base.read(f'{path}/cgroup.freeze', '').strip() == '1'))
    return found

  def ranks(self):
    """How many xhpl processes there are, by node."""
    found = {}
    state = self.state()
    for node in COMPUTE:
      init = state.init(node)
      if init is None:
        continue
      done = subprocess.run(['nsenter', '-t', str(init.pid), '-p', '-m', 'pgrep', '-xc', 'xhpl'],
                            stdout=subprocess.PIPE, text=True, check=False, timeout=20)
      if int(done.stdout.strip() or 0):
        found[node] = int(done.stdout)
    return found

  def settled(self, container, ranks, seconds=60):
    """Waits until there is exactly one live copy, running; returns its node."""
    def condition():
      if self.job is not None and self.job.process.poll() is not None:
        raise AssertionError(f'the job has ended: {self.job.process.poll()}')
      entries = self.containers().get(container, [])
      copies = self.copies(container)
      if len(entries) == 1 and entries[0]['state'] == 'running' and len(copies) == 1:
        if copies[0][0] == entries[0]['node'] and not copies[0][2]:
          return entries[0]['node']
      return None
    node = wait_for(lambda: f'one running copy of {container}: lifeboat ps says '
                    f'{self.containers().get(container)}, cgroups with processes: '
                    f'{self.copies(container)}', seconds, condition)
    found = self.ranks()
    if sum(found.values()) != ranks:
      raise AssertionError(f'{ranks} ranks expected, found {found}')
    return node

  def left(self):
    """Lines of the snapshot that differ from the empty lab."""
    _, out, error = self.run('snapshot', '--diff', self.clean)
    lines = [line for line in (out + error).splitlines() if line != 'no difference']
    return [line for line in lines if not any(re.match(kept, line) for kept in KEPT)]


class Job:
  """One `lifeboat run`, in the background: HPL, `tests` times, or until stop()."""

  def __init__(self, cluster, name, n=4000, tests=1, containers=2, ranks=1, nodes=('n1', 'n2'),
               command=None, until_stop=False, **changes):
    self.cluster, self.name, self.ranks = cluster, name, containers * ranks
    total = containers * ranks
    p = 2 if total == 4 else 1
    cluster.write(f'{name}/work/hpl.txt', hpl_input(n, tests, p, total // p))
    spec = {
      'name': name, 'bundle': cluster.bundle,
      'command': command or ['/usr/local/bin/xhpl', *(['--until', '/work/stop'] if until_stop else []),
                             '/work/hpl.txt'],
      'containers': containers, 'ranks_per_container': ranks, 'memory': '400MiB',
      'mounts': [{'source': 'work', 'target': '/work'}], 'nodes': list(nodes),
      'user': {'uid': 0, 'gid': 0}}
    spec.update(changes)
    self.file = cluster.write(f'{name}/job.yaml', json.dumps(spec))
    self.output = os.path.join(cluster.work, name, 'output')
    self.process = None

  def submit(self):
    with open(self.output, 'w', encoding='utf-8') as output:
      self.process = subprocess.Popen(
        self.cluster.command('exec', 'head', 'lifeboat', 'run', self.file, seconds=1000),
        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

  def start(self):
    self.submit()
    if self.ranks and 'xhpl' in json.dumps(json.load(open(self.file, encoding='utf-8'))['command']):
      wait_for(lambda: f'{self.ranks} ranks of job {self.name}: {self.cluster.ranks()} '
               f'{self.text()}', 60, lambda: sum(self.cluster.ranks().values()) >= self.ranks)
      time.sleep(0.5)
    return self

  def stop(self):
    """After the test that it is in."""
    self.cluster.write(f'{self.name}/work/stop', '')

  def text(self):
    return self.whole_text()[-700:]

  def whole_text(self):
    with open(self.output, encoding='utf-8') as file:
      return file.read()

  def wait(self, seconds=400):
    """Exit status of `lifeboat run`."""
    try:
      return self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      code, out, _ = self.cluster.lifeboat('ps')
      raise AssertionError(f'job {self.name} hangs: not ended after {seconds} s; lifeboat ps '
                           f'({code}):\n{out}{self.text()}') from None


class Group(unittest.TestCase):
  lab = None

  def setUp(self):
    self.lab.up()

  @contextlib.contextmanager
  def job(self, name, **options):
    """A job that lasts as long as the body and must end well then: every test of HPL passes, with the same
    digits, and nothing is left."""
    job = self.lab.job = Job(self.lab, name, until_stop=True, **options).start()
    try:
      yield job
      with self.subTest('job goes on and ends PASSED'):
        self.assertIsNone(job.process.poll(), f'it ended before it was told to: {job.text()}')
        self.ends_well(job)
      self.check_nothing_left()
    finally:
      if job.process.poll() is None:
        job.process.kill()
        job.process.wait()

  def ends_well(self, job):
    """One that lasts until it is stopped: every test of HPL has passed, with the same digits."""
    job.stop()
    self.assertEqual(job.wait(), 0, job.text())
    residuals = hpl_residuals(job.whole_text())
    self.assertEqual([verdict for _, verdict in set(residuals)], ['PASSED'], residuals)

  def check_nothing_left(self):
    with self.subTest('nothing is left'):
      # Daemons reap what crun leaves behind after 10 s at the latest.
      wait_for(lambda: '\n'.join(self.lab.left()), 30, lambda: not self.lab.left(), 0.3)

  def refused(self, text, *args, code=1):
    """A command that must fail, with that exit status, and say `text`."""
    status, out, error = self.lab.lifeboat(*args)
    self.assertIn(text, out + error)
    self.assertEqual(status, code, out + error)
    self.assertNotIn('{', error, 'JSON where people read')
    return out + error

  def moved(self, container, to, fabric='10g'):
    code, out, error = self.lab.lifeboat('migrate', container, '--to', to, '--fabric', fabric)
    self.assertEqual(code, 0, out + error)
    self.assertIn(f'{container} runs on {to}', out)
    self.assertNotIn('could not be sent while', out)
    self.assertEqual(self.lab.where(container), [to])

  def runs_on(self, container, node, job):
    self.assertEqual(self.lab.settled(container, job.ranks), node)

  def over(self, migration, seconds=120):
    """The report of a migration once it is over."""
    def ended():
      # The outcome is known a moment before everything is tidied up and the total time counted.
      report = self.lab.migration(migration)
      over = report.get('outcome') in ('committed', 'aborted') and report.get('total_ms', 0) > 0
      return report if over else None
    return wait_for(lambda: f'the end of {self.lab.migration(migration)}', seconds, ended)

  def in_phase(self, migration, phases, seconds=40):
    wait_for(lambda: f'{phases} in {self.lab.migration(migration)}', seconds,
             lambda: self.lab.migration(migration).get('phase') in phases, pause=0.005)

  def elsewhere(self, node):
    return 'n2' if node != 'n2' else 'n3'


def after(seconds):
  def wait(*_):
    time.sleep(seconds)
    return True
  return f'{seconds * 1000:.0f} ms after its start', wait


def once(what, test):
  """A moment: as soon as `test(cluster, migration, container, source, target)` holds.

  Some last 4 ms only, and a look may come too late for that: False then, once the migration is over."""
  def wait(cluster, migration, *args):
    ask = time.monotonic() + 1
    while not test(cluster, migration, *args):
      if time.monotonic() > ask:
        if cluster.migration(migration).get('outcome') in ('committed', 'aborted'):
          return False
        ask = time.monotonic() + 1
    return True
  return what, wait


def record_says(node_of, state):
  def test(_, __, container, source, target, files={}):
    node = source if node_of == 'source' else target
    path = files.setdefault(node, f'/proc/{CLUSTER.pid(node)}/root/run/lifeboat/containers/')
    try:
      with open(path + container + '/record.json', encoding='utf-8') as file:
        return f'"state":"{state}"' in file.read()
    except OSError:
      return False
  return test


def outcome_recorded(_, migration, __, ___, target, files={}):
  path = files.setdefault(target, f'/proc/{CLUSTER.pid(target)}/root/var/lib/lifeboat/outcomes/')
  return os.path.exists(path + migration)


def log_exists(name, node_of):
  def test(_, __, container, source, target, files={}):
    node = source if node_of == 'source' else target
    path = files.setdefault(node, f'/proc/{CLUSTER.pid(node)}/root/run/lifeboat/containers/')
    return os.path.exists(path + f'{container}/{name}')
  return test


CLUSTER = None


class Crashes(Group):
  """kill -9 of a daemon in the middle of a migration."""

  def test_followed(self):
    with self.job('fo') as job:
      with self.subTest('the source\'s daemon dies while `lifeboat migrate` follows: it tells the end'):
        with subprocess.Popen(self.lab.command('exec', 'head', 'lifeboat', 'migrate', 'fo-0', '--to', 'slow'),
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as followed:
          wait_for('the restore', 60, lambda: any(
            '"phase":"restore"' in json.dumps(line, separators=(',', ':'))
            for line in self.lab.api('GET', '/v1/migrations', node='n1')[1]['migrations']))
          self.lab.crash('n1')
          self.lab.must('daemon', 'n1', 'start')
          said = followed.communicate(timeout=50)[0]
        node = self.lab.settled('fo-0', job.ranks)
        self.assertEqual(followed.returncode, 1 if node == 'n1' else 0, said)
        self.assertIn(f'fo-0 runs on {"at " if node == "n1" else ""}{node}', said)

  def crash_at(self, job, container, moment, victim):
    what, wait = moment
    for _ in range(5):
      source = self.lab.settled(container, job.ranks)
      target = self.elsewhere(source)
      dead = target if victim == 'target' else source
      migration = self.lab.start_migration(container, target)
      if wait(self.lab, migration, container, source, target):
        break
    else:
      self.fail(f'not seen in five migrations: {what}')
    self.lab.crash(dead)
    time.sleep(random.uniform(0, 0.5))
    self.lab.must('daemon', dead, 'start')
    node = self.lab.settled(container, job.ranks)
    self.assertIn(node, (source, target), what)
    self.moved(container, self.elsewhere(node))

  def test_target_daemon(self):
    moments = [
      once('it has made the container\'s place', record_says('target', 'arriving')),
      once('CRIU restores', log_exists('restore.log', 'target')),
      once('the outcome is recorded', outcome_recorded),
      once('the container is recorded as running', record_says('target', 'running')),
      *(after(random.uniform(0, 0.7)) for _ in range(4))]
    with self.job('target') as job:
      for moment in moments:
        with self.subTest(f'target\'s daemon dies: {moment[0]}'):
          self.crash_at(job, 'target-1', moment, 'target')

  def test_source_daemon(self):
    moments = [
      once('the container is leaving', record_says('source', 'leaving')),
      once('CRIU dumps', log_exists('dump.log', 'source')),
      once('the commit is due', record_says('source', 'in-doubt')),
      once('the target has recorded the outcome', outcome_recorded),
      *(after(random.uniform(0, 0.7)) for _ in range(4))]
    with self.job('source') as job:
      for moment in moments:
        with self.subTest(f'source\'s daemon dies: {moment[0]}'):
          self.crash_at(job, 'source-1', moment, 'source')


class PreCopy(Group):
  """Memory moves while the container runs."""

  def pagers(self):
    done = subprocess.run(['pgrep', '-x', 'lifeboat-pager'], stdout=subprocess.PIPE, text=True,
                          check=False)
    return [int(pid) for pid in done.stdout.split()]

  def slow(self, container, to):
    """A pre-copy migration that would take half a minute, in its rounds."""
    migration = self.lab.start_migration(container, to, mode='pre-copy', bytes_per_s=2_000_000)
    self.in_phase(migration, ('pre-copy',))
    return migration

  def test_pre_copy(self):
    with self.job('pc', n=5000) as job:
      with self.subTest('there and back, over both networks'):
        for to, fabric in (('n3', '10g'), ('n2', '1g'), ('n3', '1g'), ('n2', '10g')):
          report = self.over(self.lab.start_migration('pc-1', to, fabric, mode='pre-copy'))
          self.assertEqual((report['outcome'], report['mode']), ('committed', 'pre-copy'), report)
          self.assertGreaterEqual(len(report['rounds']), 1, report)
          self.assertEqual(report['warnings'], [])
          # What was sent while it stood still is a part of it only.
          self.assertLess(report['memory']['pages_frozen'], report['memory']['pages'], report)
          self.runs_on('pc-1', to, job)
      with self.subTest('a prediction moves nothing, and nothing moves meanwhile'):
        done = threading.Thread(target=lambda: said.append(self.lab.lifeboat(
          'migrate', 'pc-1', '--to', 'n3', '--mode', 'pre-copy', '--dry-run')))
        said = []
        done.start()
        leaving = record_says('source', 'leaving')
        wait_for('the container being looked at', 30, lambda: leaving(self.lab, '', 'pc-1', 'n2', 'n3'), 0.005)
        # For a second: its own daemon is asked, which answers at once.
        status, answer = self.lab.api('POST', '/v1/containers/pc-1/migrate', {'to': 'n3'}, node='n2')
        self.assertNotEqual(status, 200, answer)
        self.assertIn('container pc-1 is leaving', json.dumps(answer))
        done.join()
        self.assertEqual(said[0][0], 0, said)
        self.assertIn('pc-1 can be moved to n3 over', said[0][1])
        self.runs_on('pc-1', 'n2', job)
      with self.subTest('cancelled in its rounds'):
        migration = self.slow('pc-1', 'n3')
        status, out, error = self.lab.lifeboat('top', '--json')
        self.assertEqual(status, 0, error)
        self.assertEqual([m['id'] for m in json.loads(out)['migrations']], [migration])
        status, _, error = self.lab.lifeboat('cancel', migration)
        self.assertEqual(status, 0, error)
        report = self.over(migration)
        self.assertEqual(report['outcome'], 'aborted')
        self.runs_on('pc-1', 'n2', job)
        self.refused('is over: aborted', 'cancel', migration)
      with self.subTest('the bandwidth is limited'):
        report = self.over(self.lab.start_migration('pc-1', 'n3', mode='pre-copy',
                                                    bytes_per_s=40_000_000))
        self.assertEqual(report['outcome'], 'committed', report)
        self.assertLess(report['bytes_sent'] / report['total_ms'] * 1000, 48_000_000, report)
        self.runs_on('pc-1', 'n3', job)
      with self.subTest('the pager dies in the rounds'):
        migration = self.slow('pc-1', 'n2')
        pagers = self.pagers()
        self.assertEqual(len(pagers), 1)
        os.kill(pagers[0], signal.SIGKILL)
        report = self.over(migration)
        self.assertEqual(report['outcome'], 'aborted', report)
        self.runs_on('pc-1', 'n3', job)
      with self.subTest('no pager is left'):
        wait_for('the end of the pagers', 30, lambda: not self.pagers())


class BadInput(Group):
  """Refused with a message and exit status, without harm to the job."""

  def test_refusals(self):
    with self.job('a') as job:
      with self.subTest('unknown container'):
        self.refused("no container 'a-9' on any node; see: lifeboat ps",
                     'migrate', 'a-9', '--to', 'n3')
      with self.subTest('unknown container in logs and kill'):
        self.refused("no container or job 'nope' is known", 'logs', 'nope')
        self.refused("no container 'nope'", 'kill', 'nope')
      with self.subTest('unknown migration'):
        self.refused("no migration 'n1-zzzz' is known", 'migrations', 'n1-zzzz')
      with self.subTest('unknown node'):
        self.refused("no node 'n9'; see: lifeboat nodes", 'migrate', 'a-0', '--to', 'n9')
      with self.subTest('unknown fabric'):
        self.refused("no fabric '40g'; known: 1g 10g 100m",
                     'migrate', 'a-0', '--to', 'n3', '--fabric', '40g')
      with self.subTest('errors as JSON'):
        code, out, _ = self.lab.lifeboat('migrate', 'a-0', '--to', 'n9', '--json')
        self.assertEqual((code, json.loads(out)['error']['code']), (1, 'not_found'))
      with self.subTest('bad usage'):
        self.refused('--to is required', 'migrate', 'a-0', code=2)
        self.refused('A subcommand is required', code=2)
      with self.subTest('target is the current node'):
        self.refused('container a-0 is on node n1 already', 'migrate', 'a-0', '--to', 'n1')
      with self.subTest('target is the head'):
        self.refused('node head is a head node: it runs no containers',
                     'migrate', 'a-0', '--to', 'head')
      with self.subTest('target lacks memory'):
        self.refused('node small has no room: container a-0 needs 400 MiB, 64 of 64 MiB are free',
                     'migrate', 'a-0', '--to', 'small')
      with self.subTest('target lacks slots'):
        self.moved('a-0', 'full')
        self.refused('node full has no room: all 1 slots are taken',
                     'migrate', 'a-1', '--to', 'full')
        self.moved('a-0', 'n1')
      with self.subTest('target\'s CRIU is too old'):
        said = self.refused("too old or no CRIU (it says 'Version: 2.6'); Lifeboat needs 3.17",
                            'migrate', 'a-0', '--to', 'old')
        self.assertIn('failed in: connect', said)
      with self.subTest('target\'s daemon is dead'):
        self.lab.must('daemon', 'n3', 'kill')
        said = self.refused('not moved, a-0 runs on at n1', 'migrate', 'a-0', '--to', 'n3')
        self.assertIn('failed in: connect', said)
        self.assertIn('node n3 on fabric 10g: connect to 10.2.0.13 port 7420: Connection refused',
                      said)
        code, out, error = self.lab.lifeboat('ps')
        self.assertEqual(code, 0)
        self.assertIn('these nodes do not answer: ["n3"]', error)
        self.lab.must('daemon', 'n3', 'start')
        self.lab.known_as_up('n3')
      with self.subTest('two migrations of one container at once'):
        first = self.lab.start_migration('a-0', 'n3', '1g', mode='pre-copy', bytes_per_s=2_000_000)
        said = self.refused(f'(migration {first} to n3)', 'migrate', 'a-0', '--to', 'n2')
        self.assertIn('container a-0 is leaving', said)
        self.assertEqual(self.lab.lifeboat('cancel', first)[0], 0)
        self.assertEqual(self.over(first)['outcome'], 'aborted')
      with self.subTest('the command line is killed in the middle of a migration'):
        with subprocess.Popen(self.lab.command('exec', 'head', 'lifeboat', 'migrate', 'a-1', '--to',
                                               'n3', '--bandwidth', '100'), stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as shell:
          migration = shell.stderr.readline().split()[1]
          for pid in self.lab_processes('lifeboat migrate a-1'):
            os.kill(pid, signal.SIGKILL)
          self.assertNotEqual(shell.wait(60), 0)
        self.assertEqual(self.over(migration)['outcome'], 'committed')
        self.runs_on('a-1', 'n3', job)
      with self.subTest('a name of a running job'):
        self.refused("job 'a' is running; end it first: lifeboat kill a", 'run', job.file)

  def lab_processes(self, line):
    """Processes of this lab's nodes with that command line."""
    head = os.stat(f'/proc/{self.lab.pid("head")}/ns/pid').st_ino
    found = []
    for path in glob.glob('/proc/[0-9]*'):
      with contextlib.suppress(OSError):
        with open(path + '/cmdline', encoding='utf-8') as file:
          text = file.read().replace('\0', ' ').strip()
        if text.startswith(line) and os.stat(path + '/ns/pid').st_ino == head:
          found.append(int(path[6:]))
    return found

  def test_bad_jobs(self):
    self.lab.job = None

    def run(name, **changes):
      return Job(self.lab, name, **changes).file
    with self.subTest('no bundle there'):
      self.refused('no OCI bundle at /no/such/bundle', 'run', run('b1', bundle='/no/such/bundle'))
    with self.subTest('a bundle without a root file system'):
      path = os.path.dirname(self.lab.write('bundle/config.json', '{"root": {"path": "rootfs"}}'))
      self.refused(f'bundle {path}: no root file system at {path}/rootfs',
                   'run', run('b2', bundle=path))
    with self.subTest('a mount source is missing'):
      self.refused('/no/such/data, mounted at /data in the container, is missing here', 'run',
                   run('b3', mounts=[{'source': '/no/such/data', 'target': '/data'}]))
    with self.subTest('a node that cannot be used'):
      self.refused('node n9, named by the job, is no compute node', 'run', run('b4', nodes=['n9']))
    with self.subTest('more containers than there is room for'):
      self.refused('room for only 1 of 2 containers of 400 MiB; full: 0 slots', 'run',
                   run('b5', nodes=['full']))
    with self.subTest('an unknown fabric'):
      self.refused("job 'b6': no fabric '40g'", 'run', run('b6', fabric='40g'))
    with self.subTest('mistakes in the job file, all at once'):
      said = self.refused('containers: expected an integer from 1 to 64',
                          'run', run('b7', containers=0, memory='lots', colour='red'), code=2)
      self.assertEqual(len(said.strip().splitlines()), 3, said)
      self.assertIn('colour: unknown key', said)
    with self.subTest('no such job file'):
      self.refused('/no/such/job.yaml', 'run', '/no/such/job.yaml', code=2)
    for node, when in (('n1', 'as ever'), ('exits', 'and whose process has ended before crun')):
      with self.subTest(f'a command that the image does not have, {when}'):
        code, out, error = self.lab.lifeboat('run', run(f'b8-{node}', command=['/no/such/program'], nodes=[node]))
        self.assertNotEqual(code, 0)
        self.assertIn('/no/such/program', out + error)
        self.assertIn('No such file or directory', out + error)
    with self.subTest('the exit status of a job is that of lifeboat run'):
      code, out, error = self.lab.lifeboat('run', run('b9', containers=1,
                                                      command=['/bin/sh', '-c', 'exit 3']))
      self.assertEqual(code, 3, out + error)
    with self.subTest('a configuration with ten mistakes'):
      text = ('cluster: Bad_Name\npaths: {run_dir: relative, cgroup: /absolute}\n'
              'fabrics:\n  - {name: f, bridge: br-f, subnet: 10.1.0.1/16, rate: 1}\n'
              'nodes:\n  - {name: n1, addresses: {f: 10.1.0.300}, slots: -1}\n'
              'default_fabric: g\nlimits: {migrations_per_node: 0}\nunknown: 1\n')
      path = self.lab.write('bad.yaml', text)
      done = subprocess.run([f'{BUILD}/lifeboatd', '--config', path, '--check-config'], text=True,
                            capture_output=True, check=False, timeout=10)
      self.assertEqual(done.returncode, 2, done.stderr)
      lines = done.stderr.strip().splitlines()
      self.assertGreaterEqual(len(lines), 10, done.stderr)
      for line in lines:
        self.assertRegex(line, r'bad\.yaml:\d+:\d+: \S+: .')
    self.check_nothing_left()


class Failures(Group):
  """Something breaks at the target or between: the container runs on at the source."""

  def test_power(self):
    with self.job('p', n=5000) as job:
      for moment, target, fabric, phases in (
          ('during the transfer', 'n3', '100m', ('dump', 'transfer')),
          ('during the restore', 'slow', '1g', ('restore',))):
        with self.subTest(f'target loses power {moment}'):
          with self.long_restore():
            migration = self.lab.start_migration('p-0', target, fabric, mode='stop-and-copy')
            self.in_phase(migration, phases)
            self.lab.must('kill', target)
          try:
            report = self.over(migration)
            self.assertEqual(report['outcome'], 'aborted', report)
            self.assertRegex(report['error'], r'10\.[13]\.0\.\d+: no progress before the deadline|is silent')
            self.assertEqual(report['phase'], phases[-1], report)
            self.runs_on('p-0', 'n1', job)
          finally:
            self.lab.must('boot', target)
      with self.subTest('and after it is back'):
        self.lab.known_as_up('n3')
        self.moved('p-0', 'n3')

  def test_network(self):
    with self.job('net', n=5000) as job:
      with self.subTest('a fabric is cut during a transfer'):
        migration = self.lab.start_migration('net-0', 'n2', '100m', mode='stop-and-copy')
        self.in_phase(migration, ('dump', 'transfer'))
        self.lab.must('link', 'n2', 'down', '--fabric', '100m')
        report = self.over(migration)
        self.lab.must('link', 'n2', 'up', '--fabric', '100m')
        self.assertEqual(report['outcome'], 'aborted', report)
        self.assertEqual(report['phase'], 'transfer', report)
        self.assertIn('10.3.0.12: no progress before the deadline', report['error'])
        self.runs_on('net-0', 'n1', job)
      with self.subTest('the fabric that its head listens over is cut: the node is up, longer than heartbeat_lost'):
        before = len(self.lab.log('head'))
        self.lab.must('link', 'n2', 'down', '--fabric', '100m')   # the first by name
        end = time.monotonic() + 9
        while time.monotonic() < end:
          self.assertEqual(self.lab.api('GET', '/v1/nodes/n2')[1].get('state'), 'up')
          time.sleep(0.2)
        self.moved('net-1', 'n3', '10g')
        self.moved('net-1', 'n2', '10g')
        self.lab.must('link', 'n2', 'up', '--fabric', '100m')
        self.assertNotRegex(self.lab.log('head')[before:], 'node is not up node=n2')
      with self.subTest('a fabric is cut during the restore'):
        with self.long_restore():
          migration = self.lab.start_migration('net-1', 'slow', '1g', mode='stop-and-copy')
          self.in_phase(migration, ('restore',))
          self.lab.must('link', 'slow', 'down', '--fabric', '1g')
          report = self.over(migration)
        self.lab.must('link', 'slow', 'up', '--fabric', '1g')
        self.assertEqual((report['outcome'], report['phase']), ('aborted', 'restore'), report)
        self.runs_on('net-1', 'n2', job)
      with self.subTest('the target has nothing of it left, and takes it the next time'):
        wait_for('n2 without net-0', 30, lambda: self.lab.where('net-0') == ['n1'])
        self.moved('net-0', 'n2', '1g')
      with self.subTest('a fabric that is down: the step and the fabric are named'):
        self.lab.must('link', 'n3', 'down', '--fabric', '1g')
        said = self.refused('node n3 on fabric 1g: connect to 10.1.0.13 port 7420',
                            'migrate', 'net-0', '--to', 'n3', '--fabric', '1g')
        self.assertIn('failed in: connect', said)
        self.moved('net-0', 'n3', '10g')
        self.lab.must('link', 'n3', 'up', '--fabric', '1g')

  def test_criu(self):
    with self.job('c', containers=3, nodes=['n1', 'old', 'exits']) as job:
      with self.subTest('target\'s CRIU is killed in the middle'):
        said = self.refused('not moved, c-0 runs on at n1', 'migrate', 'c-0', '--to', 'dies')
        self.assertRegex(said, 'node dies: restore: criu (ended without an answer|was killed)')
        self.runs_on('c-0', 'n1', job)
      with self.subTest('target\'s CRIU ends at once'):
        said = self.refused('not moved, c-0 runs on at n1', 'migrate', 'c-0', '--to', 'exits')
        self.assertRegex(said, 'node exits: preflight: .*criu')
        self.runs_on('c-0', 'n1', job)
      with self.subTest('source\'s CRIU is too old'):
        said = self.refused('at the source: ', 'migrate', 'c-1', '--to', 'n2')
        self.assertIn("too old or no CRIU (it says 'Version: 2.6')", said)
      with self.subTest('source\'s CRIU ends at once'):
        said = self.refused('not moved, c-2 runs on at exits', 'migrate', 'c-2', '--to', 'n2')
        self.assertIn('failed in: prepare', said)
        self.runs_on('c-2', 'exits', job)

  def test_pager(self):
    with self.job('pg') as job:
      with self.subTest('the pager is killed during the restore: CRIU is not waited for'):
        with self.long_restore():
          migration = self.lab.start_migration('pg-0', 'slow', mode='pre-copy')
          self.in_phase(migration, ('restore',))
          self.lab.must('exec', 'slow', 'pkill', '-9', '-x', 'lifeboat-pager')
          report = self.over(migration)
        self.assertEqual((report['outcome'], report['phase']), ('aborted', 'restore'), report)
        self.assertIn('the pager has ended', report['error'])
        self.runs_on('pg-0', 'n1', job)
      with self.subTest('and is moved the next time'):
        self.moved('pg-0', 'n3')
    with self.subTest('the pager is killed while CRIU lets go of the tasks, after the commit'):
      job = self.lab.job = Job(self.lab, 'pr', tests=20).start()
      held = self.lab.write('held', '')
      migration = self.lab.start_migration('pr-0', 'slow', mode='pre-copy')
      wait_for('CRIU standing still', 60, self.stopped_criu)
      os.remove(held)
      self.in_phase(migration, ('commit', 'committed'))
      self.lab.must('exec', 'slow', 'pkill', '-9', '-x', 'lifeboat-pager')
      # It lives nowhere: never on pages that are missing, and the source's copy is no longer it.
      self.assertEqual(self.over(migration)['outcome'], 'committed')
      self.assertNotEqual(job.wait(), 0, job.text())
    self.check_nothing_left()

  @contextlib.contextmanager
  def long_restore(self):
    """At the node `slow`: for 7 s, of which timeouts.restore leaves one."""
    still = self.lab.write('still', '7')
    try:
      yield
    finally:
      os.remove(still)

  def stopped_criu(self):
    done = subprocess.run(['pgrep', '-x', 'criu', '-r', 'T'], stdout=subprocess.PIPE, check=False)
    return done.returncode == 0

  def test_criu_of_source_dies(self):
    with self.job('d', nodes=['dies', 'n1']) as job:
      with self.subTest('source\'s CRIU is killed in the middle'):
        # While it writes pages: killed while it puts its code into a task, it takes the task along.
        said = self.refused('not moved, d-0 runs on at dies', 'migrate', 'd-0', '--to', 'n2', '--mode',
                            'criu-images')
        self.assertIn('failed in: dump', said)
        self.assertRegex(said, 'criu (ended without an answer|was killed)')
        self.runs_on('d-0', 'dies', job)

  def test_vfork(self):
    """CRIU waits in vain for a process in vfork(): nine freezes of ten hit one here."""
    program = self.lab.write('vf/work/program', '')
    subprocess.run(['gcc', '-O1', '-Wall', '-static', '-o', program,
                    os.path.join(ROOT, 'tests/lab/vfork_program.c')], check=True, timeout=120)
    job = self.lab.job = Job(self.lab, 'vf', containers=1, nodes=('n1',), command=['/work/program']).start()
    wait_for(lambda: f'a tick: {job.text()}', 20, lambda: 'tick' in job.text())
    for mode, to in (('pre-copy', 'n2'), ('stop-and-copy', 'n1'), ('pre-copy', 'n2')):
      with self.subTest(f'{mode}: a process in vfork() is let out of it first'):
        self.assertEqual(self.lab.lifeboat('migrate', 'vf-0', '--to', to, '--mode', mode)[0], 0)
    with self.subTest('it goes on'):
      before = job.whole_text().count('tick')
      wait_for('a tick', 20, lambda: job.whole_text().count('tick') > before)
    self.assertEqual(self.lab.lifeboat('kill', 'vf')[0], 0)
    job.wait()
    self.check_nothing_left()


class Jobs(Group):

  def test_restarts(self):
    with self.job('r') as job:
      with self.subTest('a node\'s daemon is restarted: its containers are adopted'):
        self.lab.must('daemon', 'n1', 'restart')
        self.lab.known_as_up('n1')
        self.runs_on('r-0', 'n1', job)
        code, out, _ = self.lab.lifeboat('ps')
        self.assertRegex(out, r'r-0 +r +n1 +running')
      with self.subTest('an adopted container can be migrated'):
        self.moved('r-0', 'n3')
      with self.subTest('a node\'s daemon crashes and is started: the same'):
        self.lab.must('daemon', 'n2', 'kill')
        self.lab.must('daemon', 'n2', 'start')
        self.lab.known_as_up('n2')
        self.moved('r-1', 'n1')
      with self.subTest('a daemon waits for its port, which one that is just ending may have still'):
        self.lab.must('daemon', 'n2', 'stop')
        listening = ('import socket, time; s = socket.create_server(("0.0.0.0", 7420)); print(flush=True); '
                     'time.sleep(2)')
        holder = subprocess.Popen(self.lab.command('exec', 'n2', '/usr/bin/python3', '-c', listening, seconds=30),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        with holder:
          holder.stdout.readline()
          self.lab.must('daemon', 'n2', 'start')
        self.lab.known_as_up('n2')
        self.moved('r-1', 'n2')

  def test_head_restart(self):
    job = self.lab.job = Job(self.lab, 'h', n=2000, until_stop=True)
    code, out, error = self.lab.lifeboat('run', job.file, '--detach')
    self.assertEqual(code, 0, out + error)
    with self.subTest('the head\'s daemon crashes and is started while a job runs'):
      self.lab.must('daemon', 'head', 'kill')
      self.lab.must('daemon', 'head', 'start')
      status, answer = self.lab.api('GET', '/v1/jobs/h')
      self.assertEqual((status, answer['state']), (200, 'running'))
      job.stop()
      wait_for('the end of job h', 400,
               lambda: self.lab.api('GET', '/v1/jobs/h')[1]['state'] == 'ended', 0.2)
      self.assertEqual(self.lab.api('GET', '/v1/jobs/h')[1].get('exit_code'), 0)
      _, out, _ = self.lab.lifeboat('logs', 'h')
      self.assertEqual({verdict for _, verdict in hpl_residuals(out)}, {'PASSED'}, out)
    with self.subTest('an ended job is known after another restart'):
      self.lab.must('daemon', 'head', 'restart')
      answer = self.lab.api('GET', '/v1/jobs/h')[1]
      self.assertEqual((answer.get('state'), answer.get('exit_code')), ('ended', 0))
      self.refused("job 'h' has ended already", 'kill', 'h')
    self.check_nothing_left()

  def test_kill(self):
    for name, victim in (('k1', 'k1'), ('k2', 'k2-1')):
      with self.subTest('kill of ' + ('a job' if name == victim else 'one container')):
        job = self.lab.job = Job(self.lab, name, tests=10).start()
        code, out, error = self.lab.lifeboat('kill', victim)
        self.assertEqual(code, 0, out + error)
        self.assertIn(f'{victim} ended', out)
        self.assertNotEqual(job.wait(), 0, job.text())
        self.assertEqual(self.lab.ranks(), {})
    self.check_nothing_left()

  def test_kill_while_migrating(self):
    with self.subTest('kill of a container in the middle of its migration'):
      job = self.lab.job = Job(self.lab, 'km', tests=10).start()
      migration = self.lab.start_migration('km-0', 'slow', '1g')
      self.in_phase(migration, ('restore',))
      code, out, error = self.lab.lifeboat('kill', 'km')
      self.assertEqual(code, 0, out + error)
      self.assertNotEqual(job.wait(), 0, job.text())
      self.over(migration)
      wait_for(lambda: f'no ranks: {self.lab.ranks()}', 20, lambda: not self.lab.ranks())
    self.check_nothing_left()

  def test_two_jobs(self):
    with self.job('x') as job:
      with self.subTest('a second job beside the first; one with two ranks per container'):
        other = Job(self.lab, 'y', n=2000, containers=2, ranks=2, until_stop=True, nodes=['n1', 'n2'])
        other.ranks += job.ranks  # what is counted is the ranks of both
        other.start()
        code, out, error = self.lab.lifeboat('migrate', 'y-0', '--to', 'n3')
        self.assertEqual(code, 0, out + error)
        self.assertEqual(self.lab.where('y-0'), ['n3'])
        self.moved('x-1', 'n3', '1g')
        self.ends_well(other)

  def test_jobs_at_once(self):
    names = [f'o{i}-0' for i in range(4)]
    with self.subTest('jobs that are started at the same moment take different addresses'):
      jobs = [Job(self.lab, name[:2], containers=1, ranks=1, nodes=('n1',),
                  command=['/bin/sh', '-c', 'while ! [ -e /work/stop ]; do sleep 0.1; done']) for name in names]
      for job in jobs:
        job.start()

      def all_addresses():
        there = self.lab.containers()
        return set(names) <= set(there) and [there[name][0]['addresses'] for name in names]
      found = wait_for('the containers', 60, all_addresses)
      for fabric in found[0]:
        self.assertEqual(len({addresses[fabric] for addresses in found}), len(names), found)
      for job in jobs:
        job.stop()
      self.assertEqual([job.wait() for job in jobs], [0] * len(names))
    self.check_nothing_left()


class Strangers(Group):
  """What comes over the wire and the socket from programs that are not ours."""

  # What n1's daemon answers to raw bytes, by TLS if there is a certificate to show.
  SAY = '''
import socket, ssl, sys
data, seconds, cert, slowly = bytes.fromhex(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
until, times = sys.argv[5].encode(), int(sys.argv[6])
import time
s = socket.create_connection(("10.2.0.11", 7420), 5)
s.settimeout(seconds)
out = b""
try:
  if cert:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations("/run/lifeboat/ca.crt")
    if cert != "none":
      tls.load_cert_chain(cert + ".crt", cert + ".key")
    s = tls.wrap_socket(s)
  if slowly:
    for i in range(len(data)):
      s.sendall(data[i:i + 1])
      time.sleep(float(slowly))
  else:
    s.sendall(data)
  while not until or out.count(until) < times:
    part = s.recv(4096)
    if not part: break
    out += part
except OSError: pass
print(out.hex())
'''

  OWN = '/run/lifeboat/node'   # the certificate of the node itself

  def say(self, data, cert=OWN, until='', times=1, seconds=20, slowly='', node='n2'):
    """The answer, until it has `until` so many times, the daemon closes the connection or has said nothing for
    `seconds`."""
    return bytes.fromhex(self.lab.must('exec', node, '/usr/bin/python3', '-c', self.SAY, data.hex(),
                                       str(seconds), cert, str(slowly), until, str(times)))

  def frame(self, kind, body, length=None):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(text) if length is None else length
    return (b'LBT1' + kind.to_bytes(2, 'little') + bytes(2) + size.to_bytes(4, 'little') + text)

  def hello(self, **other):
    return {'cluster': self.lab.name, 'node': 'n2', 'version': VERSION, **other}

  def logged(self, start, *texts):
    """A line of n1's log after `start` bytes with all of these."""
    return wait_for(f'the log says {texts}', 20, lambda: [
      line for line in self.lab.log('n1')[start:].splitlines() if all(t in line for t in texts)])[0]

  def certificate(self, directory, *words):
    """Made by `lifeboat pki` for a test, where all nodes see it."""
    done = subprocess.run([f'{BUILD}/lifeboat', 'pki', '--dir', directory, *words], text=True,
                          capture_output=True, check=False, timeout=20)
    self.assertEqual(done.returncode, 0, done.stderr)

  def test_before_the_certificate(self):
    hello = self.frame(1, self.hello())
    for what, data, cert in (('garbage', b'GET / HTTP/1.1\r\nHost: n1\r\n\r\n', ''),
                             ('a greeting that is not encrypted', hello, ''),
                             ('no certificate', hello, 'none')):
      with self.subTest(what):
        before = len(self.lab.log('n1'))
        self.assertNotIn(b'LBT1', self.say(data, cert))
        self.logged(before, 'refused a peer', 'TLS')
    other = os.path.join(self.lab.work, 'pki-other')
    self.certificate(other, 'init', '--cluster', self.lab.name)
    self.certificate(other, 'node', 'n2')
    with self.subTest("another CA's certificate"):
      before = len(self.lab.log('n1'))
      self.assertNotIn(b'LBT1', self.say(hello, f'{other}/n2'))
      self.logged(before, 'refused a peer', 'certificate')
    with self.subTest('nothing, and one byte a second: timeouts.connect is 2s'):
      for data, slowly in ((b'\x16\x03', ''), (bytes([0x16, 3, 1, 2, 0, 1]) + bytes(20), 0.5)):
        before = len(self.lab.log('n1'))
        self.say(data, '', slowly=slowly)
        self.logged(before, 'refused a peer', 'no progress before the deadline')
    with self.subTest('200 connections that say nothing: the cluster goes on'):
      before = len(self.lab.log('n1'))
      self.lab.must('exec', 'n2', '/usr/bin/python3', '-c',
                    'import socket\n'
                    'for s in [socket.create_connection(("10.2.0.11", 7420), 20) for _ in range(200)]:\n'
                    '  try: assert s.recv(1) == b""\n'
                    '  except ConnectionResetError: pass\n')
      # Some of an address are waited for, the others closed at once.
      self.logged(before, 'refused a peer', 'no progress before the deadline')
      kept = self.lab.log('n1')[before:].count('no progress before the deadline')
      self.assertLess(kept, 100)
      self.assertEqual(self.lab.api('GET', '/v1/nodes')[0], 200)
      self.assertEqual(self.lab.api('GET', '/v1/status', node='n1')[0], 200)
    self.check_nothing_left()

  def test_peers(self):
    cases = (
      ('garbage', b'GET / HTTP/1.1\r\nHost: n1\r\n\r\n', 'wrong magic'),
      ('half a header', self.frame(1, self.hello())[:7], 'no progress before the deadline'),
      ('a huge length', self.frame(1, b'', 0xffffffff), 'a Hello frame of 4294967295 bytes'),
      ('a long message before the greeting', self.frame(2, b'x' * 5000), '5000 bytes before'),
      ('an unknown kind', self.frame(99, {}), 'unknown frame kind 99'),
      ('a greeting that is no JSON', self.frame(1, b'\xff\x00{'), 'not valid JSON'),
      ('a greeting without a name', self.frame(1, {'cluster': self.lab.name}), "member 'node'"),
      ('a request before the greeting', self.frame(2, {'method': 'status'}),
       'sent Request where Hello was due'),
      ('another version', self.frame(1, self.hello(version=VERSION + 1)),
       f'speaks protocol version {VERSION + 1}'),
      ('another cluster', self.frame(1, self.hello(cluster='other')),
       "belongs to cluster 'other', this one to"),
      ('another node than its certificate', self.frame(1, self.hello(node='n3')),
       'but its certificate is of lifeboat://'))
    for what, data, logged in cases:
      with self.subTest(what):
        before = len(self.lab.log('n1'))
        self.say(data)
        self.logged(before, 'refused a peer', logged)
    with self.subTest('another cluster is told why'):
      self.assertIn(b'belongs to cluster', self.say(self.frame(1, self.hello(cluster='other'))))
    pki = os.path.join(self.lab.state().directory, 'pki')
    with self.subTest('a role that the configuration does not give'):
      forged = os.path.join(self.lab.work, 'pki-forged')
      shutil.copytree(pki, forged)
      os.remove(f'{forged}/n2.crt')
      self.certificate(forged, 'node', 'n2', '--role', 'head')
      before = len(self.lab.log('n1'))
      self.say(self.frame(1, self.hello()), f'{forged}/n2')
      self.logged(before, 'refused a peer', 'certificate for the role head, but is configured as compute')
    with self.subTest('a node that is not configured'):
      self.certificate(forged, 'node', 'n99')
      before = len(self.lab.log('n1'))
      self.say(self.frame(1, self.hello(node='n99')), f'{forged}/n99')
      self.logged(before, 'refused a peer', 'node n99 is not configured')
    with self.subTest('after a good greeting: bad methods, bad offers, image data out of place'):
      for kind, body in ((2, {'method': 'nope'}), (2, {}), (2, {'method': 'migrate', 'params': 3}),
                         (2, {'method': 'container.create', 'params': {'spec': {'id': '../x'}}}),
                         (16, {}), (16, {'migration': '../../x', 'source': 'n2'}), (19, b'x' * 30),
                         (22, {}), (2, b'[' * 3000)):
        self.say(self.frame(1, self.hello()) + self.frame(kind, body), seconds=1.5)
      self.assertEqual(self.lab.api('GET', '/v1/status', node='n1')[0], 200)
    self.check_nothing_left()

  def test_roles(self):
    greeting = self.frame(1, self.hello())
    for method, params in (('job.run', {'yaml': ''}), ('container.create', {}), ('migrate', {}),
                           ('container.remove', {'id': 'x-0'}), ('node.degrade', {'node': 'n1', 'reason': 'x'}),
                           ('node.evacuate', {'node': 'n1'}), ('migration.outcome', {'id': 'n3-abc'}),
                           ('migration.cancel', {'id': 'n1-abc'}), ('status', {}), ('node.plan', {'node': 'n1'})):
      with self.subTest(method):
        before = len(self.lab.log('n1'))
        answer = self.say(greeting + self.frame(2, {'method': method, 'params': params}), until='(compute)')
        self.assertIn(f"'{method}' is not for node n2 (compute)".encode(), answer)
        self.logged(before, 'refused a request', method)
    with self.subTest('states may be asked for'):
      for method, text in (('node.state', '"state"'), ('migration.list', '"migrations"')):
        self.assertIn(text.encode(), self.say(greeting + self.frame(2, {'method': method, 'params': {}}), until=text))
    with self.subTest('a head node may give orders: this one fails for what it asks'):
      answer = self.say(self.frame(1, self.hello(node='head')) + self.frame(
        2, {'method': 'migrate', 'params': {'container': 'none', 'to': 'n2'}}), until='left node', node='head')
      self.assertIn(b'has left node n1', answer)
    with self.subTest("another node's container, another migration's pages"):
      before = len(self.lab.log('n1'))
      for source, migration in (('n3', 'n3-abc'), ('n2', 'n3-abc')):
        answer = self.say(greeting + self.frame(16, {'migration': migration, 'source': source}), until='offer what')
        self.assertIn(b'compute nodes offer what is theirs', answer)
      answer = self.say(greeting + self.frame(24, {'migration': 'n3-abc', 'shard': 0, 'shards': 1}),
                        until='not its own')
      self.assertIn(b'which is not its own', answer)
      self.logged(before, 'refused a peer', 'sends pages of migration')
    with self.subTest('pages of a migration that is none, and pages that are not encrypted'):
      answer = self.say(greeting + self.frame(
        24, {'migration': 'n2-abc', 'shard': 0, 'shards': 1, 'encrypted': True}), until='no container')
      self.assertIn(b'no container waits for pages', answer)
      answer = self.say(greeting + self.frame(24, {'migration': 'n2-abc', 'shard': 0, 'shards': 1}),
                        until='must be the same')
      self.assertIn(b'security.pages must be the same', answer)
    with self.subTest('who asks too often waits: 200 a second'):
      start = time.monotonic()
      answer = self.say(greeting + 500 * self.frame(2, {'method': 'node.state', 'params': {}}), until='"state"',
                        times=500)
      self.assertEqual(answer.count(b'"state"'), 500)
      self.assertGreater(time.monotonic() - start, 1.4)
    self.check_nothing_left()

  def test_renewal(self):
    """Another key and certificate for n1, then another CA, without a restart."""
    from lablib.pki import Pki
    state = self.lab.state()
    pki, root = Pki(state, BUILD), f'/proc/{self.lab.pid("n1")}/root'
    expires = self.lab.api('GET', '/v1/status', node='n1')[1]['certificate_expires']
    pki.run('renew', 'n1', '--days', '200')
    pki.install('n1', root)
    self.assertIn(b'"n1"', self.say(self.frame(1, self.hello()), until='"n1"'))
    status = self.lab.api('GET', '/v1/status', node='n1')[1]
    self.assertNotEqual(status['certificate_expires'], expires)
    self.assertEqual(status['certificate_problem'], '')
    with self.subTest('a file that is none: told, and the old one serves'):
      with open(root + '/run/lifeboat/node.crt', 'r+', encoding='ascii') as file:
        text = file.read()
        file.seek(0)
        file.write('x' * len(text))
      self.assertIn(b'"n1"', self.say(self.frame(1, self.hello()), until='"n1"'))
      status = self.lab.api('GET', '/v1/status', node='n1')[1]
      self.assertIn('security.cert /run/lifeboat/node.crt', status['certificate_problem'])
      pki.install('n1', root)
      self.assertIn(b'"n1"', self.say(self.frame(1, self.hello()), until='"n1"'))
      self.assertEqual(self.lab.api('GET', '/v1/status', node='n1')[1]['certificate_problem'], '')

  def test_files(self):
    """What daemons keep is root's alone: every directory below their own, and every file in these."""
    with self.job('f', containers=1, nodes=['n1']):
      for node in ('head', 'n1'):
        for top in ('/run/lifeboat', '/var/lib/lifeboat'):
          root = self.lab.inside(node, top)
          for name in os.listdir(root):
            info = os.stat(os.path.join(root, name))
            self.assertEqual(info.st_uid, 0, name)
            if name not in ('lifeboat.yaml', 'hardware'):  # the lab's own
              self.assertEqual(info.st_mode & 0o077, 0, f'{node}: {top}/{name}')

  # As user and groups: what the socket answers to a method and a path.
  AS_USER = '''
import os, socket, sys
uid, groups = int(sys.argv[1]), [int(g) for g in sys.argv[2].split(",") if g]
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
s = socket.socket(socket.AF_UNIX)
try:
  s.connect("/run/lifeboat/api.sock")
except PermissionError:
  print("no connection")
  sys.exit()
s.settimeout(5)
s.sendall(f"{sys.argv[3]} {sys.argv[4]} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
print(s.recv(65536).decode())
'''

  def as_user(self, node, method, path, *groups):
    return self.lab.must('exec', node, '/usr/bin/python3', '-c', self.AS_USER, '1234',
                         ','.join(str(g) for g in groups), method, path)

  def test_users(self):
    """n3's daemon knows groups 1 (daemon: everything) and 2 (bin: looking); n1's none."""
    self.assertEqual(self.as_user('n1', 'GET', '/v1/status', 1, 2).strip(), 'no connection')
    self.assertIn('200 OK', self.as_user('n3', 'GET', '/v1/status', 2))
    self.assertIn('200 OK', self.as_user('n3', 'GET', '/v1/status', 1))
    self.assertIn('200 OK', self.as_user('n3', 'GET', '/', 2))  # the page
    self.assertIn('200 OK', self.as_user('n3', 'GET', '/v1/nodes/n3/plan', 2))
    said = self.as_user('n3', 'POST', '/v1/nodes/n3/restore', 2)
    self.assertIn('403 Forbidden', said)
    self.assertIn('group daemon (security.admin_group)', said)
    self.assertIn('409 Conflict', self.as_user('n3', 'POST', '/v1/nodes/n3/restore', 1))  # it is up
    said = self.as_user('n3', 'GET', '/v1/status', 1234)
    self.assertIn('403 Forbidden', said)
    self.assertIn('group bin (security.read_group)', said)

  def check(self, node, *args):
    """(exit status, {subject: finding}) of `lifeboat check` there."""
    code, out, error = self.lab.run('exec', node, 'lifeboat', 'check', '--json', '--config',
                                    '/run/lifeboat/lifeboat.yaml', '--node', node, *args)
    self.assertEqual(error, '')
    said = json.loads(out)
    for finding in said['findings']:
      self.assertTrue(finding['found'] and (finding['result'] == 'ok' or finding['why'] and finding['fix']), finding)
    worst = max((finding['result'] for finding in said['findings']), key=('ok', 'warning', 'error').index)
    self.assertEqual((said['result'], code), (worst, int(worst == 'error')))
    return code, {finding['subject']: finding for finding in said['findings']}

  def test_check(self):
    with self.subTest('a node that is fit: everything is looked at, and every node over every fabric'):
      code, found = self.check('n1')
      self.assertEqual(code, 0, found)
      for subject in ('kernel', 'dirty tracking', 'criu', 'crun', 'lifeboatd', 'certificate', 'registry', 'fabric 1g',
                      'node head over 1g', 'node n2 over 10g', 'paths.run_dir', 'memory', 'pipes'):
        self.assertEqual(found[subject]['result'], 'ok', found[subject])
      for fabric in ('1g', '10g'):
        self.assertRegex(found[f'rate of {fabric}']['found'], r'^\d+\.\d Mbit/s to head')
    with self.subTest('--local asks nobody'):
      code, found = self.check('n1', '--local')
      self.assertEqual((code, [name for name in found if name.startswith(('node ', 'rate ', 'registry'))]), (0, []))
    with self.subTest('a bridge that is down, a daemon that does not run, a certificate that is not there'):
      self.lab.must('exec', 'n1', 'ip', 'link', 'set', 'br-1g', 'down')
      self.lab.must('daemon', 'n2', 'stop')
      key = self.lab.inside('n3', '/run/lifeboat/node.key')
      os.rename(key, key + '.away')
      try:
        code, found = self.check('n1', '--no-rate')
        self.assertEqual(code, 1)
        self.assertEqual(found['fabric 1g']['fix'], 'ip link set br-1g up')
        self.assertEqual(found['node n2 over 10g']['result'], 'error')
        self.assertIn('TCP port 7420', found['node n2 over 10g']['fix'])
        self.assertEqual(found['node head over 10g']['result'], 'ok')
        code, found = self.check('n2', '--no-rate')
        self.assertEqual(found['lifeboatd']['result'], 'warning')
        code, found = self.check('n3', '--no-rate')
        self.assertEqual(code, 1)
        self.assertIn('node.key', found['certificate']['found'])
        self.assertEqual(found['certificate']['fix'], 'lifeboat pki node n3, and put its files where security: says')
      finally:
        os.rename(key + '.away', key)
        self.lab.must('exec', 'n1', 'ip', 'link', 'set', 'br-1g', 'up')
        self.lab.must('daemon', 'n2', 'start')
    with self.subTest('a node that is not in the configuration'):
      code, _, error = self.lab.run('exec', 'n1', 'lifeboat', 'check', '--config', '/run/lifeboat/lifeboat.yaml', '--node',
                                    'n9')
      self.assertEqual(code, 2)
      self.assertIn("'n9', is not listed", error)

  def curl(self, *args):
    out = self.lab.must('exec', 'head', 'curl', '-s', '-w', '\n%{http_code}', '--unix-socket',
                        '/run/lifeboat/api.sock', *args)
    text, _, status = out.rpartition('\n')
    return int(status), json.loads(text) if text.strip() else None

  def test_api(self):
    if not shutil.which('curl'):
      self.curl = lambda *args: self.lab.api(
        'POST' if '-d' in args else 'GET', args[-1].replace('http://lifeboat', ''),
        args[args.index('-d') + 1] if '-d' in args else None)
    with self.subTest('status: 200'):
      status, answer = self.curl('http://lifeboat/v1/status')
      self.assertEqual((status, answer['node'], answer['role']), (200, 'head', 'head'))
    with self.subTest('an unknown route: 404'):
      status, answer = self.curl('http://lifeboat/v1/nope')
      self.assertEqual((status, answer['error']['code']), (404, 'not_found'))
    with self.subTest('bad JSON: 400'):
      for body in ('{"yaml": ', '[]', '"text"', '[' * 1000):
        status, answer = self.curl('-d', body, 'http://lifeboat/v1/jobs')
        self.assertEqual(status, 400, (body, answer))
        self.assertIn('JSON', answer['error']['message'])
    with self.subTest('a missing member: 400'):
      status, answer = self.curl('-d', '{}', 'http://lifeboat/v1/jobs')
      self.assertEqual(status, 400, answer)
      self.assertIn("'yaml'", answer['error']['message'])
    with self.subTest('no HTTP at all'):
      self.lab.must('exec', 'head', '/usr/bin/python3', '-c',
                    'import socket\ns = socket.socket(socket.AF_UNIX)\n'
                    's.connect("/run/lifeboat/api.sock")\ns.sendall(bytes(range(256)) * 100)\n')
      self.assertEqual(self.lab.api('GET', '/v1/status')[0], 200)
    with self.subTest('no daemon: its own exit status'):
      self.lab.must('daemon', 'head', 'stop')
      self.refused('/run/lifeboat/api.sock', 'status', code=3)
      self.lab.must('daemon', 'head', 'start')
    self.check_nothing_left()


class Events(Group):
  """What happened, for people and for systemd's journal."""

  def events(self, *args, node='head'):
    out = self.lab.must('exec', node, 'lifeboat', 'events', '--json', *args)
    return [json.loads(line) for line in out.splitlines()]

  def test_events(self):
    with self.job('ev') as job:
      with subprocess.Popen(self.lab.command('exec', 'head', 'lifeboat', 'events', '--all', '--follow', '--since',
                                             '10min', seconds=600), stdout=subprocess.PIPE, text=True) as follow:
        report = self.over(self.lab.start_migration('ev-0', 'n3', mode='pre-copy'))
        self.runs_on('ev-0', 'n3', job)
        slow = self.lab.start_migration('ev-0', 'n1', mode='pre-copy', bytes_per_s=2_000_000)
        self.in_phase(slow, ('pre-copy',))
        self.assertEqual(self.lab.lifeboat('cancel', slow)[0], 0)
        self.over(slow)
        self.assertEqual(self.lab.lifeboat('node', 'degrade', 'full', '--reason', 'of events')[0], 0)
        self.assertEqual(self.lab.lifeboat('node', 'restore', 'full')[0], 0)
        said = []
        while not (said and ' full is up ' in said[-1] and ': of events' in ''.join(said)):
          said.append(follow.stdout.readline())
          self.assertTrue(said[-1], f'it has ended: {said}')
        follow.terminate()  # and timeout(1) what it runs
      with self.subTest('followed, over all nodes'):
        kinds = [line.split()[1:3] for line in said]
        for kind in (['n1', 'migration-started'], ['n1', 'migration-committed'], ['n3', 'container-arrived'],
                     ['n3', 'migration-started'], ['n3', 'migration-aborted'], ['full', 'node-state']):
          self.assertIn(kind, kinds, said)
        self.assertEqual(len(said), len(set(said)), said)
        self.assertIn(f'migration-committed  ev-0: n1 -> n3 ({report["id"]})', ''.join(said))
        self.assertIn('full is degraded (degrade): of events', ''.join(said))
      with self.subTest('of one node, and how far back'):
        self.assertEqual({event['node'] for event in self.events(node='n1')}, {'n1'})
        self.assertIn((report['id'], 'migration-committed'),
                      [(event.get('migration'), event['event']) for event in self.events(node='n1')])
        self.assertEqual(self.events('--since', '0s', node='n1'), [])
        self.refused('--since takes a duration', 'events', '--since', 'yesterday', code=2)

  def test_journald(self):
    """A real journald in one node, whose daemon finds that its standard error is the journal's."""
    journald = '/lib/systemd/systemd-journald'
    if not os.access(journald, os.X_OK):
      print('SKIP: no systemd-journald on this machine')
      return
    self.lab.must('exec', 'full', '/bin/sh', '-c', f'mkdir -p /run/systemd/journal; '
                  f'setsid {journald} < /dev/null > /dev/null 2>&1 & '
                  'while ! [ -S /run/systemd/journal/socket ]; do sleep 0.05; done')
    try:
      self.lab.must('daemon', 'full', 'stop')
      info = os.stat(f'{self.lab.state().node_dir("full")}/lifeboatd.log')
      os.environ['JOURNAL_STREAM'] = f'{info.st_dev}:{info.st_ino}'
      try:
        self.lab.must('daemon', 'full', 'start')
      finally:
        del os.environ['JOURNAL_STREAM']
      self.assertEqual(self.lab.lifeboat('node', 'degrade', 'full', '--reason', 'a "test"')[0], 0)
      self.assertEqual(self.lab.lifeboat('node', 'restore', 'full')[0], 0)

      def entries():
        out = self.lab.must('exec', 'full', 'journalctl', '-o', 'json', '-t', 'lifeboatd',
                            'MESSAGE_ID=a39c3d71211f4dc39594c074729ce4d5')
        return [json.loads(line) for line in out.splitlines()]
      wait_for(entries, 10, lambda: len(entries()) == 2)
      with self.subTest('an event has its id, its priority and its fields'):
        bad, good = entries()
        self.assertEqual([bad[key] for key in ('LIFEBOAT_EVENT', 'LIFEBOAT_NODE', 'LIFEBOAT_STATE',
                                               'LIFEBOAT_REASON', 'PRIORITY')],
                         ['node-state', 'full', 'degraded', 'a "test"', '4'])
        self.assertEqual((good['LIFEBOAT_STATE'], good['PRIORITY']), ('up', '6'))
        self.assertIn('node is not up node=full state=degraded', bad['MESSAGE'])
      with self.subTest('and is told once'):
        self.assertNotIn('a \\"test', self.lab.log('full'))
      with self.subTest('journalctl explains it'):
        # The catalog of this node alone: /var/lib is its own.
        self.lab.must('exec', 'full', '/bin/sh', '-c', 'mkdir -p /run/root/usr/lib/systemd/catalog && '
                      f'cp {ROOT}/configs/lifeboat.catalog /run/root/usr/lib/systemd/catalog/ && '
                      'journalctl --root=/run/root --update-catalog')
        out = self.lab.must('exec', 'full', 'journalctl', '--root=/run/root', '--dump-catalog',
                            'a39c3d71211f4dc39594c074729ce4d5')
        self.assertIn('node-state: a node is up, degraded or down', out)
    finally:
      self.lab.must('exec', 'full', '/bin/sh', '-c', 'pkill -x systemd-journal; '
                    'rm -rf /run/systemd /run/log /run/root', seconds=20)
      self.lab.must('daemon', 'full', 'stop')
      self.lab.must('daemon', 'full', 'start')
    self.check_nothing_left()


class Metrics(Group):
  """Numbers, and a migration as a trace."""

  def socket_page(self, node):
    from lablib.daemon import Unix
    with contextlib.closing(Unix(self.lab.inside(node, '/run/lifeboat/api.sock'), 15)) as connection:
      connection.request('GET', '/v1/metrics')
      answer = connection.getresponse()
      text = answer.read().decode()
    self.assertEqual((answer.status, answer.getheader('Content-Type')),
                     (200, 'text/plain; version=0.0.4; charset=utf-8'), text)
    return text

  def values(self, node):
    """{'name{labels}': value}"""
    lines = [line.rpartition(' ') for line in self.socket_page(node).splitlines() if line[0] != '#']
    return {name: float(value) for name, _, value in lines}

  def on_port(self, node, what):
    """What a program in that node sees of 127.0.0.1:9464."""
    return self.lab.must('exec', node, '/usr/bin/python3', '-c',
                         'import socket, sys, time\n'
                         'def ask(text):\n'
                         '  s = socket.create_connection(("127.0.0.1", 9464), 15)\n'
                         '  s.sendall(text)\n'
                         '  said = b""\n'
                         '  while part := s.recv(65536):\n'
                         '    said += part\n'
                         '  return said.decode()\n' + what)

  def promtool(self, *args, text=''):
    env = subprocess.run([f'{ROOT}/scripts/setup', '--print-env'], text=True, check=True, timeout=60,
                         stdout=subprocess.PIPE).stdout
    promtool = re.search('^PROMTOOL=(.*)$', env, re.M)[1]
    done = subprocess.run([promtool, *args], input=text, text=True, capture_output=True, check=False,
                          timeout=60)
    return done.returncode, done.stdout + done.stderr

  def used(self, expressions):
    return set(re.findall(r'\b(?:lifeboat|process)_\w+', '\n'.join(expressions)))

  def texts(self, value, key):
    """What a dashboard has under `key`, wherever it is."""
    if isinstance(value, list):
      return [text for item in value for text in self.texts(item, key)]
    if not isinstance(value, dict):
      return []
    here = [value[key]] if isinstance(value.get(key), str) else []
    return here + [text for item in value.values() for text in self.texts(item, key)]

  def test_metrics(self):
    with self.job('me') as job:
      before, target = self.values('n1'), self.values('n3')
      report = self.over(self.lab.start_migration('me-0', 'n3', mode='pre-copy'))
      self.assertEqual(report['outcome'], 'committed', report)
      self.runs_on('me-0', 'n3', job)
      after, arrived = self.values('n1'), self.values('n3')

      def grew(name):
        return round(after[name] - before[name], 3)
      with self.subTest('a migration counts at its source'):
        mode = 'mode="pre-copy"'
        self.assertEqual(grew(f'lifeboat_migrations_total{{{mode},outcome="committed"}}'), 1)
        self.assertEqual(grew(f'lifeboat_migrations_total{{{mode},outcome="failed"}}'), 0)
        self.assertEqual(grew(f'lifeboat_migration_downtime_seconds_sum{{{mode}}}'),
                         round(report['downtime_ms'] / 1000, 3))
        self.assertEqual(grew(f'lifeboat_migration_duration_seconds_count{{{mode}}}'), 1)
        self.assertEqual(grew('lifeboat_migration_sent_bytes_total'), report['bytes_sent'])
        self.assertEqual(grew('lifeboat_precopy_rounds_total'), len(report['rounds']))
        self.assertEqual(grew('lifeboat_containers{state="running"}'), -1)
        self.assertGreater(grew('lifeboat_registry_request_duration_seconds_count{operation="swap"}'), 0)
      with self.subTest('and at its target'):
        name = 'lifeboat_arrivals_total{outcome="committed"}'
        self.assertEqual(arrived[name] - target[name], 1)
        self.assertEqual(arrived['lifeboat_containers{state="running"}'], 1)
      with self.subTest('how the node is'):
        self.assertEqual(after['lifeboat_node_state{state="up"}'], 1)
        self.assertEqual(after['lifeboat_registry_up'], 1)
        self.assertGreater(after['lifeboat_certificate_expiry_timestamp_seconds'], time.time())
        self.assertLess(time.time() - after['process_start_time_seconds'], 3600)
      with self.subTest('what is going on'):
        slow = self.lab.start_migration('me-0', 'n1', mode='pre-copy', bytes_per_s=2_000_000)
        self.in_phase(slow, ('pre-copy',))
        wait_for(lambda: self.values('n3'), 10,
                 lambda: self.values('n3')['lifeboat_migration_send_bytes_per_second'] > 100_000)
        self.assertEqual(self.values('n3')['lifeboat_migrations_running'], 1)
        self.assertEqual(self.values('n1')['lifeboat_pagers'], 1)
        self.assertEqual(self.lab.lifeboat('cancel', slow)[0], 0)
        self.over(slow)
        aborted = 'lifeboat_migrations_total{mode="pre-copy",outcome="aborted"}'
        self.assertEqual(self.values('n3')[aborted] - target[aborted], 1)
      with self.subTest('a trace that viewers open'):
        path = os.path.join(self.lab.work, 'trace.json')
        code, out, error = self.lab.lifeboat('migrations', report['id'], '--trace', path)
        self.assertEqual(code, 0, out + error)
        with open(path, encoding='utf-8') as file:
          trace = json.load(file)
        names = {event['name'] for event in trace['traceEvents']}
        self.assertLessEqual({'connect', 'round 1', 'frozen', 'dump', 'restore', 'resume'}, names)
        self.assertEqual({event['pid'] for event in trace['traceEvents']}, {1, 2})

  def test_metrics_text(self):
    page = self.socket_page('n1')
    with self.subTest('promtool finds nothing wrong'):
      self.assertEqual(self.promtool('check', 'metrics', text=page), (0, ''))
      code, said = self.promtool('check', 'rules', f'{ROOT}/configs/prometheus-alerts.yaml')
      self.assertEqual(code, 0, said)
    with self.subTest('dashboard and alerts use what there is'):
      there = set(re.findall(r'^(\w+)[{ ]', page, re.M))
      with open(f'{ROOT}/configs/grafana.json', encoding='utf-8') as file:
        board_file = json.load(file)
      expressions = self.texts(board_file, 'expr')
      board = self.used(expressions + self.texts(board_file, 'query'))
      with open(f'{ROOT}/configs/prometheus-alerts.yaml', encoding='utf-8') as file:
        alerts = self.used([file.read()])
      self.assertGreater(len(board), 20)
      self.assertGreater(len(alerts), 8)
      self.assertEqual((board | alerts) - there, set())
      # As rules, for promtool to read.
      rules = [{'record': f'panel:{i}', 'expr': text} for i, text in enumerate(expressions)]
      path = self.lab.write('board.yaml', json.dumps({'groups': [{'name': 'board', 'rules': rules}]}))
      code, said = self.promtool('check', 'rules', path)
      self.assertEqual(code, 0, said)
    with self.subTest('the same on a port'):
      said = self.on_port('n1', 'print(ask(b"GET /metrics HTTP/1.1\\r\\nHost: n1\\r\\n\\r\\n"))')
      self.assertIn('HTTP/1.1 200 OK', said)
      for line in page.splitlines():
        if line[0] == '#':
          self.assertIn(line, said)
    with self.subTest('and nothing else'):
      for request, status in (('GET /v1/status', '404 Not Found'), ('POST /metrics', '405 Method Not Allowed')):
        said = self.on_port('n1', f'print(ask(b"{request} HTTP/1.1\\r\\nHost: n1\\r\\n\\r\\n"))')
        self.assertIn(status, said)
      said = self.on_port('n1', 'print(ask(b"GET /metrics HTTP/1.1\\r\\nX: " + b"x" * 9000))')
      self.assertEqual(said.strip(), '')
    with self.subTest('who says nothing gets 10 s, and takes no place from the operator'):
      said = self.on_port('n1', 's = [socket.create_connection(("127.0.0.1", 9464), 60) for _ in range(32)]\n'
                          'time.sleep(0.3)\n'
                          'print(len(ask(b"")), flush=True)\n'   # one too many: closed at once
                          'start = time.monotonic()\n'
                          'print([len(c.recv(1)) for c in s].count(0), time.monotonic() - start)\n'
                          'print(len(ask(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")))').split()
      self.assertEqual(said[:2], ['0', '32'])
      self.assertLess(float(said[2]), 30)
      self.assertGreater(int(said[3]), 10_000)
    with self.subTest('a state changes'):
      self.lab.lifeboat('node', 'degrade', 'full', '--reason', 'a test')
      self.assertEqual(self.values('full')['lifeboat_node_state{state="degraded"}'], 1)
      self.lab.lifeboat('node', 'restore', 'full')
      self.assertEqual(self.values('full')['lifeboat_node_state{state="degraded"}'], 0)
    with self.subTest('a port that is taken'):
      self.lab.must('daemon', 'small', 'stop')
      with subprocess.Popen(self.lab.command('exec', 'small', '/usr/bin/python3', '-c',
                                             'import socket\ns = socket.create_server(("127.0.0.1", 9464))\n'
                                             'print("taken", flush=True)\nimport sys; sys.stdin.read()\n'),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        self.assertEqual(other.stdout.readline().strip(), 'taken')
        code, out, error = self.lab.run('daemon', 'small', 'start')
        self.assertNotEqual(code, 0, out + error)
        other.stdin.close()
      self.assertIn('metrics.listen 127.0.0.1:9464: Address already in use', self.lab.log('small'))
      self.lab.must('daemon', 'small', 'start')
    self.check_nothing_left()


# ---- results: one line per case

class Result(unittest.TestResult):
  passed = failed = 0

  def line(self, verdict, test, name, error=None):
    print(f'{verdict}  {test.id().split(".")[-1][5:]}: {name}', flush=True)
    if error is None:
      self.passed += 1
      return
    self.failed += 1
    CLUSTER.dirty = True
    text = str(error[1])
    if not issubclass(error[0], AssertionError):
      text = self._exc_info_to_string(error, test)
    print('\n'.join('  | ' + part for part in text.strip().splitlines()[:40]), flush=True)

  def addSubTest(self, test, subtest, err):
    name = subtest._message if isinstance(subtest._message, str) else str(subtest)
    self.line('FAILED' if err else 'passed', test, name, err)

  def addError(self, test, err):
    self.line('FAILED', test, 'the group itself', err)

  addFailure = addError

  def stopTest(self, test):
    super().stopTest(test)
    if not CLUSTER.dirty:
      return
    with contextlib.suppress(Exception):
      for node in ('head', *COMPUTE):
        for line in CLUSTER.log(node).splitlines()[-25:]:
          if ' ready ' not in line:
            print(f'  |{node}| {line}')


def main(module=sys.modules['__main__']):
  """Runs the groups of `module`; other files of groups call it with their own."""
  global CLUSTER
  if os.geteuid() != 0:
    skip('namespaces, cgroups and CRIU need root')
  for program in ('lifeboatd', 'lifeboat'):
    if not os.access(f'{BUILD}/{program}', os.X_OK):
      skip(f'{BUILD}/{program} has not been built')
  if subprocess.run([f'{ROOT}/scripts/setup', '--print-env'], capture_output=True, check=False,
                    timeout=60).returncode != 0:
    skip('scripts/setup has not been run')
  for signo in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(signo, signal.default_int_handler)  # unittest lets nothing else through
  random.seed(SEED)
  CLUSTER = Group.lab = Cluster()
  result = Result()
  try:
    print(f'random moments: LIFEBOAT_TEST_SEED={SEED}', flush=True)
    for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
      for test in suite:
        if len(sys.argv) == 1 or test.id().split('.')[-1][5:] in sys.argv[1:]:
          start = time.monotonic()
          test.run(result)
          print(f'-- {test.id().split(".")[-1][5:]}: {time.monotonic() - start:.0f} s', flush=True)
  finally:
    CLUSTER.remove()
  print(f'{result.passed} passed, {result.failed} failed, 0 skipped')
  return 1 if result.failed else 0


if __name__ == '__main__':
  sys.exit(main())
