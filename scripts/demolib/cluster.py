"""The demo's lab: brought up, asked, and taken down again whatever happens."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lablib import base, cgroup
from lablib.cluster import Lab
from lablib.daemon import SOCKET, Daemon, Unix

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROGRAM = os.path.join(ROOT, 'scripts', 'lab')
LOGS = os.path.join(ROOT, 'build', 'demo-logs')
HEAD = 'head'

# What the daemons keep on purpose: a job's record and output, how migrations ended, who owned what, the
# states of nodes and what their predictors learned, and the empty directories and groups that containers
# were in. `host` is the machine outside of the lab, where others work too.
KEPT = (
  r'nodes\.\w+\.files: \+ /var/lib/lifeboat/(jobs(/.*)?|node-states\.jsonl|predictor\.json)$',
  r'nodes\.\w+\.files: \+ /run/lifeboat/(crun|images|containers|outcomes(/.*)?)$',
  r'nodes\.\w+\.files: \+ /var/lib/lifeboat/(registry\.db(-wal)?|migrations\.jsonl|outcomes(/[^/]+)?)$',
  r'nodes\.\w+\.cgroups: \+ \w*:containers$',
  r'host\.',
)


class Failure(Exception):
  """The demo cannot go on: what happened, for the user."""


class Cluster:
  def __init__(self):
    self.name = f'demo-{os.getpid()}'
    self.lab = Lab(self.name)
    self.directory = None   # job files and outputs
    self.children = []
    self.nodes = []         # the compute nodes
    self.killed = []        # of these, by power cut

  # ---- up and down

  def leftovers(self):
    """Labs of demos that were killed."""
    root = base.state_root()
    names = os.listdir(root) if os.path.isdir(root) else []
    return sorted(n for n in names if re.fullmatch(r'demo-\d+', n) and n != self.name
                  and not os.path.exists(f'/proc/{n[5:]}'))

  def up(self, build, lab_file):
    """`lab_file` gives the description of the lab; it may put files into the directory."""
    if self.lab.exists():
      raise Failure(f'a lab {self.name!r} exists already; remove it with: '
                    f'scripts/lab --name {self.name} down')
    self.directory = tempfile.mkdtemp(prefix='lifeboat-demo-')
    self.must('up', '--build', build, '--file', lab_file(self.directory))
    self.lab.load()
    self.nodes = [node['name'] for node in self.lab.state['nodes'] if node['role'] == 'compute']
    with open(self.path('before.json'), 'w', encoding='utf-8') as file:
      file.write(self.must('snapshot', '--json'))

  def down(self):
    """Ends everything; returns what could not be removed."""
    for child in self.children:
      with contextlib.suppress(OSError):
        child.terminate()
    problems = []
    code, out, error = self.command('down')
    if code != 0:
      problems.append((error or out).strip() or f'scripts/lab down: exit status {code}')
    for child in self.children:
      try:
        child.wait(5)
      except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if self.directory:
      shutil.rmtree(self.directory, ignore_errors=True)
    for what, there in (
        ('processes', base.find_inits(self.name)),
        ('cgroups', cgroup.trees(cgroup.relative(self.name))),
        ('files', [p for p in (self.lab.directory, self.directory) if p and os.path.exists(p)]),
        ('mounts', [m[0] for m in base.mounts() if f'/{self.name}/' in m[0] + '/'])):
      if there:
        problems.append(f'{what} of lab {self.name} are left: {", ".join(map(str, there))}')
    return problems

  def keep_logs(self):
    """Copies what tells why something failed."""
    shutil.rmtree(LOGS, ignore_errors=True)
    os.makedirs(LOGS)
    for node in [HEAD, *self.nodes]:
      with contextlib.suppress(OSError):
        shutil.copyfile(os.path.join(self.lab.node_dir(node), 'lifeboatd.log'),
                        os.path.join(LOGS, f'{node}.log'))
    for name in os.listdir(self.directory) if self.directory else ():
      if os.path.isfile(self.path(name)):
        shutil.copy(self.path(name), LOGS)
    return os.path.relpath(LOGS, ROOT)

  def path(self, name):
    return os.path.join(self.directory, name)

  # ---- scripts/lab, and the operator's commands on the head node

  def start(self, *args, **options):
    """Away from the terminal's signals: this program decides what ends when."""
    child = subprocess.Popen([PROGRAM, '--name', self.name, *args], stdin=subprocess.DEVNULL,
                             text=True, start_new_session=True, **options)
    self.children.append(child)
    return child

  def command(self, *args, seconds=120):
    """(exit status, stdout, stderr)"""
    child = self.start(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
      out, error = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
      child.kill()
      out, error = child.communicate()
      error += f'scripts/lab {" ".join(args)}: not done after {seconds} s\n'
    except BaseException:
      child.terminate()   # it cleans up itself
      child.wait()
      raise
    self.children.remove(child)
    return child.returncode, out, error

  def must(self, *args):
    code, out, error = self.command(*args)
    if code != 0:
      raise Failure(f'scripts/lab {args[0]} failed: {(error or out).strip()}')
    return out

  def operator(self, *args, **options):
    return self.start('exec', HEAD, 'lifeboat', *args, **options)

  # ---- the head's daemon; asked for what is shown while things move

  def get(self, path, timeout=5):
    """The answer, or None if there is none."""
    init = self.lab.init(HEAD)
    if init is None:
      return None
    connection = Unix(f'/proc/{init.pid}/root{SOCKET}', timeout)
    try:
      connection.request('GET', path)
      answer = connection.getresponse()
      body = json.loads(answer.read())
      return body if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
      return None
    finally:
      connection.close()

  def containers(self, job):
    """{container: [entry on each node that has it]} of a job; None if a node does not answer that
    should."""
    answer = self.get('/v1/containers')
    if answer is None or set(answer['unreachable']) - set(self.killed):
      return None
    found = {}
    for entry in answer['containers']:
      if entry['job'] == job:
        found.setdefault(entry['id'], []).append(entry)
    return found

  def dead_daemons(self):
    inits = {node: self.lab.init(node) for node in (HEAD, *self.nodes) if node not in self.killed}
    return [node for node, init in inits.items()
            if init is None or Daemon(self.lab, node, init).proc() is None]

  def kill(self, node):
    """Cuts its power."""
    self.must('kill', node)
    self.killed.append(node)

  def left(self, seconds=10):
    """Lines of the snapshot that differ from before the jobs; what is still going gets time. Of a
    node that was killed nothing is left by itself."""
    kept = (*KEPT, *(rf'nodes\.{node}\b' for node in self.killed))
    end = time.monotonic() + seconds
    while True:
      code, out, error = self.command('snapshot', '--diff', self.path('before.json'))
      if code == 2:
        return [error.strip()]
      with open(self.path('snapshot-difference.txt'), 'w', encoding='utf-8') as file:
        file.write(out)
      lines = [line for line in out.splitlines() if line != 'no difference'
               and not any(re.match(pattern, line) for pattern in kept)]
      if not lines or time.monotonic() > end:
        return lines
      time.sleep(0.5)


def deaf():
  """From here on no signal interrupts (a second Ctrl-C while cleaning up)."""
  for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signo, signal.SIG_IGN)
