"""One lab: a named cluster on this machine, from `up` to `down`.

On disk, under the state root (/run/lifeboat-lab or $LIFEBOAT_LAB_DIR):
  LAB/lab.json              what the lab consists of: written when it stands
  LAB/hosts                 /etc/hosts of its nodes
  LAB/pki/                  its certificates
  LAB/NODE/state/           the node's /var/lib/lifeboat
  LAB/NODE/layer/           with --root: what the node has written; LAB/srv/: its nodes' shared storage
  LAB/NODE/lifeboatd.log    output of its daemon; init.log: of its init
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from lablib import base, cgroup, debian, net, systemd
from lablib.base import MARK, SWITCH, LabError
from lablib.config import Config
from lablib.daemon import CONFIG, READY_WITHIN, Daemon
from lablib.node import STATE_DIR
from lablib.pki import Pki
from lablib.service import Service
from lablib.slurm import CONF as SLURM_CONF, Slurm

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'lab')


class Lab:
  def __init__(self, name):
    self.name, self.root = name, base.state_root()
    self.directory = os.path.join(self.root, name)
    self.file = os.path.join(self.directory, 'lab.json')
    self.state = None

  def node_dir(self, node):
    return os.path.join(self.directory, node)

  def lock(self):
    return base.locked(self.directory, f'lab {self.name!r}')

  # ---- what there is

  def load(self):
    """Reads lab.json; an error if the lab is not up."""
    text = base.read(self.file, '')
    if not text:
      hint = '; remove what is left of it with: down' if self.exists() else '; start it with: up'
      raise LabError(f'lab {self.name!r} is not up{hint} (see: scripts/lab list)')
    try:
      self.state = json.loads(text)
    except ValueError as error:
      raise LabError(f'{self.file}: damaged ({error}); use: down, then up') from None
    return self

  def exists(self):
    return os.path.exists(self.directory) or bool(self.inits()) or bool(
      cgroup.trees(cgroup.relative(self.name)))

  def inits(self):
    """All inits of this lab by their command line: {node: Proc}. Refuses those of a lab of the
    same name that lives in another state directory."""
    out = {}
    for _, node, root, proc in base.find_inits(self.name):
      if root != self.root:
        raise LabError(f'a lab {self.name!r} runs with its state in {root} (process {proc.pid}); '
                       f'choose another --name, or set LIFEBOAT_LAB_DIR={root} to work on it')
      out.setdefault(node, []).append(proc)
    return out

  def node(self, name):
    for node in self.state['nodes']:
      if node['name'] == name:
        return node
    names = ', '.join(n['name'] for n in self.state['nodes'])
    raise LabError(f'lab {self.name!r} has no node {name!r}; it has {names}')

  def chosen(self, name):
    return [n['name'] for n in self.state['nodes']] if name == 'all' else [self.node(name)['name']]

  def init(self, name):
    """The init of a node, or None while the node is powered off."""
    record = self.state['switch'] if name == SWITCH else self.node(name)
    proc = base.Proc(record['pid'], record['started']) if record.get('pid') else None
    return proc if proc and proc.alive() else None

  def running(self, name):
    init = self.init(name)
    if init is None:
      raise LabError(f'node {name} of lab {self.name!r} is powered off; '
                     f'use: scripts/lab --name {self.name} boot {name}')
    return init

  def daemon(self, name):
    kind = Service if self.state.get('systemd') else Daemon
    return kind(self, name, self.running(name))

  def environment(self):
    env = dict(os.environ)
    env.pop('LIFEBOAT_SOCKET', None)
    if self.state.get('tree'):
      return {**env, 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root'}
    env['PATH'] = os.pathsep.join([self.state['build'], env.get('PATH', os.defpath)])
    if self.state.get('slurm'):
      env['SLURM_CONF'] = SLURM_CONF
    return env

  def save(self):
    temporary = self.file + '.new'
    with open(temporary, 'w', encoding='utf-8') as file:
      json.dump(self.state, file, indent=2)
    os.rename(temporary, self.file)

  # ---- up

  def up(self, path, build, with_daemons, replace, with_systemd=False, with_slurm=False, tree=None):
    config = Config(path)
    if tree and not os.access(os.path.join(tree, 'lib/systemd/systemd'), os.X_OK):
      raise LabError(f'{tree}: no Debian system with systemd; debootstrap --include=systemd-sysv makes one')
    if with_slurm:
      Slurm.check()
    for tool in ('ip', 'tc', 'nsenter'):
      if not shutil.which(tool):
        raise LabError(f'{tool} is missing; install iproute2 and util-linux')
    if with_daemons and not os.access(os.path.join(build, 'lifeboatd'), os.X_OK):
      raise LabError(f'{build}/lifeboatd: no such program; build it, name its directory with '
                     '--build, or use --no-daemon')
    if self.exists():
      if not replace:
        raise LabError(f'lab {self.name!r} exists (state in {self.directory}); take it down first, '
                       'use --replace, or choose another --name')
      self.down()
    with self.lock():
      if os.listdir(self.directory):
        raise LabError(f'lab {self.name!r} has just been brought up by another command')
      try:
        self.build(config, build, with_daemons, with_systemd, with_slurm, tree)
      except BaseException:
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # no second interruption
        self.remove()
        raise

  def build(self, config, build, with_daemons, with_systemd, with_slurm, tree):
    os.makedirs(STATE_DIR, exist_ok=True)
    os.makedirs(os.path.join(self.directory, debian.SHARED), mode=0o755)
    with open(os.path.join(self.directory, 'hosts'), 'w', encoding='ascii') as file:
      file.write(config.hosts())
    self.state = {
      'name': self.name, 'systemd': with_systemd, 'slurm': with_slurm, 'tree': tree, 'file': os.path.abspath(config.path),
      'build': build, 'switch': {},
      'default_fabric': config.default_fabric, 'fabrics': [f['name'] for f in config.fabrics],
      'nodes': [{k: v for k, v in n.items() if k != 'lifeboat'} for n in config.nodes]}
    names = [n['name'] for n in config.nodes]
    with self.power_on([SWITCH, *names]) as procs:
      switch = procs.pop(SWITCH)
      self.state['switch'] = {'pid': switch.pid, 'started': switch.started}
      net.set_up_switch(switch, config)
      self.furnish(config, switch, procs)
      if with_slurm:
        Slurm(self).start(names)
      if with_daemons and not with_systemd:
        self.start_daemons(names)
      self.save()
    if with_daemons and with_systemd:  # which starts when the nodes go on
      self.start_daemons(names)

  def boot(self, name, with_daemon):
    """Switches a node on again after `kill`; its state directory is what it was."""
    self.load()  # before the lock, which would make the directory
    with self.lock():
      self.load()
      if self.init(self.node(name)['name']):
        raise LabError(f'node {name} of lab {self.name!r} is running')
      if self.init(SWITCH) is None:
        raise LabError(f'the switch of lab {self.name!r} is gone; use: down, then up')
      config = Config(self.state['file'])
      if [n['name'] for n in config.nodes] != [n['name'] for n in self.state['nodes']]:
        raise LabError(f'{config.path} has other nodes than when the lab came up; '
                       'use: up --replace')
      self.cut(name)
      try:
        with self.power_on([name]) as procs:
          self.furnish(config, self.init(SWITCH), procs)
          if self.state.get('slurm'):
            Slurm(self).start([name])
          if with_daemon and not self.runs_systemd(name):
            self.start_daemons([name])
          self.save()
        if with_daemon and self.runs_systemd(name):
          self.start_daemons([name])
      except BaseException:
        self.kill(name)
        raise

  @contextlib.contextmanager
  def power_on(self, names):
    """Starts inits and yields {name: Proc}. They stay only if the body ends well: an init goes
    away by itself when this process dies before it has told it to go on."""
    children = {}
    try:
      for name in names:
        os.makedirs(os.path.join(self.node_dir(name), 'state'), mode=0o700, exist_ok=True)
        cgroup.make(self.name, name)
        command = [sys.executable, PROGRAM, '_node', f'{MARK}:{self.name}:{name}', self.root]
        if self.runs_systemd(name):
          command.append(self.state['build'])
          if self.state.get('tree'):
            command.append(self.state['tree'])
          cgroup.make_leaf(self.name, name, systemd.GROUP)
        with open(os.path.join(self.node_dir(name), 'init.log'), 'ab') as log:
          children[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
      procs = {name: self.greet(name, child) for name, child in children.items()}
      yield procs
      for child in children.values():
        child.stdin.write(b'go\n')
        child.stdin.flush()
    finally:
      for child in children.values():
        with contextlib.suppress(BrokenPipeError):
          child.stdin.close()
        child.stdout.close()
        child.wait()

  def runs_systemd(self, name):
    return self.state.get('systemd', False) and name != SWITCH

  def greet(self, name, child):
    words = child.stdout.readline().split()
    if len(words) == 2:
      proc = base.Proc(int(words[1]))
      cgroup.join(self.name, name, systemd.GROUP if self.runs_systemd(name) else 'init', proc.pid)
      if child.stdout.readline() == b'ready\n':
        return proc
    log = base.read(os.path.join(self.node_dir(name), 'init.log'), '').strip()
    raise LabError(f'node {name} of lab {self.name!r} did not start: {log or "it ended"}')

  def furnish(self, config, switch, procs):
    """Network and configuration of nodes that have just been switched on; with `tree` the network alone."""
    net.plug_in(switch, config, procs)
    pki = Pki(self, self.state['build'])
    configures = not self.state.get('tree')
    if configures and pki.available():
      pki.make(self.name, config.nodes)
    for index, node in enumerate(config.nodes):
      proc = procs.get(node['name'])
      if proc is None:
        continue
      net.set_up_node(config, index, proc)
      self.node(node['name']).update(pid=proc.pid, started=proc.started)
      if not configures:
        continue
      text = config.lifeboat_yaml(self.name, node,
                                  self.containers_group(node['name']))
      with open(f'/proc/{proc.pid}/root{CONFIG}', 'w', encoding='utf-8') as file:
        file.write(text)
      if pki.available():
        pki.install(node['name'], f'/proc/{proc.pid}/root')

  def containers_group(self, name):
    """As the node's daemon finds it."""
    return systemd.CONTAINERS if self.runs_systemd(name) else self.containers_of(name)

  def containers_of(self, name):
    """The group of a node's containers as the host has it."""
    if self.runs_systemd(name):
      return f'{cgroup.relative(self.name, name, systemd.GROUP)}/{systemd.CONTAINERS}'
    return cgroup.relative(self.name, name, 'containers')

  def start_daemons(self, names):
    daemons = [self.daemon(name) for name in names]
    for daemon in daemons:
      daemon.start()
    end = time.monotonic() + READY_WITHIN
    for daemon in daemons:
      daemon.wait_ready(end)

  # ---- down

  def down(self):
    """Takes everything away that carries the lab's name; True if there was anything."""
    if not self.exists():
      return False
    with self.lock():
      self.remove()
    return True

  def remove(self):
    procs = [proc for found in self.inits().values() for proc in found]
    group = cgroup.relative(self.name)
    # An init ends only after all of its node has; what a v1 freezer holds must be thawed for that.
    left = base.kill_all(procs, lambda: cgroup.kill(group))
    if left:
      raise LabError(f'lab {self.name!r}: these processes do not end: '
                     f'{", ".join(str(p.pid) for p in left)}; look at /proc/PID/stack, '
                     'then run down again')
    problems = cgroup.remove(group)
    if problems:
      raise LabError(f'lab {self.name!r}: cannot remove\n  ' + '\n  '.join(problems) +
                     '\nend what uses it, then run down again')
    inside = [point for point, *_ in base.mounts()
              if point == self.directory or point.startswith(self.directory + '/')]
    if inside:
      raise LabError(f'lab {self.name!r}: not removing {self.directory}: there are mounts in it: '
                     f'{", ".join(inside)}; unmount them, then run down again')
    if os.path.isdir(self.directory):
      shutil.rmtree(self.directory)
    if not os.environ.get('LIFEBOAT_LAB_DIR'):
      with contextlib.suppress(OSError):
        os.rmdir(self.root)  # only if this was the last lab

  def cut(self, name):
    switch = self.init(SWITCH)
    if switch:
      net.unplug(switch, name, self.state['fabrics'])

  def kill(self, name):
    """A power cut: first the cables, then every process of the node at once."""
    self.node(name)
    self.cut(name)
    group = cgroup.relative(self.name, name)
    left = base.kill_all(self.inits().get(name, []), lambda: cgroup.kill(group))
    problems = [f'process {p.pid} does not end' for p in left] + cgroup.remove(group)
    if problems:
      raise LabError(f'node {name} of lab {self.name!r}: ' + '; '.join(problems))

  # ---- inside a node

  def execute(self, name, command):
    """Runs a command in a node in the foreground; returns its exit code as a shell would."""
    init, cwd, env = self.running(name), os.getcwd(), self.environment()
    passed_on = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
                 signal.SIGUSR2, signal.SIGCONT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD, signal.SIGTSTP})
    init.enter()
    child = os.fork()
    if child == 0:
      self.become(command, cwd, env, before)
    while True:
      info = signal.sigwaitinfo(passed_on | {signal.SIGCHLD})
      if info.si_signo != signal.SIGCHLD:
        if info.si_code <= 0 and info.si_pid != child:  # not from the terminal: it has had those
          os.kill(child, info.si_signo)
        continue
      pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
      if pid == 0:
        continue
      if os.WIFSTOPPED(status):
        os.kill(os.getpid(), signal.SIGSTOP)  # the shell sees a stopped job
        os.kill(child, signal.SIGCONT)
        continue
      code = os.waitstatus_to_exitcode(status)
      return code if code >= 0 else 128 - code

  @staticmethod
  def become(command, cwd, env, mask):
    code = 126
    try:
      base.die_with_parent()
      try:
        os.chdir(cwd)
      except OSError as error:
        print(f'lab: {cwd}: {error.strerror} in the node; starting in /', file=sys.stderr)
        os.chdir('/')
      signal.signal(signal.SIGINT, signal.default_int_handler)
      for signo in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, signal.SIG_DFL)
      signal.pthread_sigmask(signal.SIG_SETMASK, mask)
      os.execvpe(command[0], command, env)
    except OSError as error:
      print(f'lab: {command[0]}: {error.strerror}', file=sys.stderr, flush=True)
      code = 127 if isinstance(error, FileNotFoundError) else 126
    finally:
      os._exit(code)

  # ---- telling

  def status(self):
    out = []
    for node in self.state['nodes']:
      init = self.init(node['name'])
      daemon = 'off'
      if init:
        handle = self.daemon(node['name'])
        daemon = 'down' if handle.proc() is None else 'up' if handle.answers() is None else 'silent'
      out.append({'name': node['name'], 'role': node['role'], 'pid': init.pid if init else None,
                  'daemon': daemon, 'addresses': node['addresses']})
    switch = self.init(SWITCH)
    return {'lab': self.name, 'directory': self.directory, 'file': self.state['file'],
            'build': self.state['build'], 'switch': switch.pid if switch else None, 'nodes': out}


def known_labs():
  """{name: state} of all labs of this state root and of every running node."""
  out = {}
  root = base.state_root()
  for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
    lab = Lab(name)
    try:
      status = lab.load().status()
      off = [n['name'] for n in status['nodes'] if not n['pid']]
      whole = status['switch'] and not off
      out[name] = 'up' if whole else f'damaged: {", ".join(off) or SWITCH} off'
    except LabError:
      out[name] = 'incomplete'
  for name, _, where, proc in base.find_inits():
    if name not in out or where != root:
      out.setdefault(name, f'running with its state in {where} (process {proc.pid})')
  return out
