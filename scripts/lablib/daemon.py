"""A node's lifeboatd, and lifeboat-starter beside it: started inside the node; the daemon is asked for its
status over its socket."""
import http.client
import json
import os
import select
import signal
import socket
import struct
import time

from lablib import base, cgroup
from lablib.base import LabError
from lablib.node import RUN_DIR

CONFIG = f'{RUN_DIR}/lifeboat.yaml'
SOCKET = f'{RUN_DIR}/api.sock'
STARTER_SOCKET = f'{RUN_DIR}/starter.sock'
READY_WITHIN = 60   # seconds from start to the first good answer
STOP_WITHIN = 10    # seconds from SIGTERM to the end
UCRED = struct.Struct('iii')   # pid, uid, gid
LOG_TAIL = 20       # lines of the log shown when it fails


class Unix(http.client.HTTPConnection):
  def __init__(self, path, timeout):
    super().__init__('localhost', timeout=timeout)
    self.path = path

  def connect(self):
    self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    self.sock.settimeout(self.timeout)
    self.sock.connect(self.path)


def recorded(path):
  """The running process of a record, or None."""
  try:
    record = json.loads(base.read(path, ''))
    proc = base.Proc(record['pid'], record['started'])
  except (ValueError, KeyError):
    return None
  return proc if record['started'] and proc.alive() else None


class Daemon:
  """The daemon of one node of a lab."""

  def __init__(self, lab, node, init):
    self.lab, self.node, self.init = lab, node, init
    self.directory = lab.node_dir(node)
    self.log = os.path.join(self.directory, 'lifeboatd.log')
    self.record = os.path.join(self.directory, 'daemon.json')
    self.starter_record = os.path.join(self.directory, 'starter.json')

  def fail(self, what):
    tail = base.read(self.log, '').splitlines()[-LOG_TAIL:]
    text = '\n'.join('  ' + line for line in tail) if tail else '  (empty)'
    raise LabError(f'lifeboatd of {self.node}: {what}\nlast lines of {self.log}:\n{text}')

  def proc(self):
    """The running daemon, or None."""
    return recorded(self.record)

  def starter(self):
    """The running lifeboat-starter, or None: the parent of all that the daemon has started."""
    return recorded(self.starter_record)

  def answers(self, timeout=2.0):
    """None if GET /v1/status is answered with 200, otherwise what happened instead."""
    try:
      connection = Unix(f'/proc/{self.init.pid}/root{SOCKET}', timeout)
      connection.request('GET', '/v1/status')
      status = connection.getresponse().status
      connection.close()
      return None if status == 200 else f'GET /v1/status: status {status}'
    except (OSError, http.client.HTTPException) as error:
      return f'GET /v1/status: {error or type(error).__name__}'

  def start(self):
    """Starts the daemon; `wait_ready` tells whether it came up."""
    if self.proc():
      raise LabError(f'lifeboatd of {self.node} runs already (pid {self.proc().pid}); '
                     f'use: scripts/lab --name {self.lab.name} daemon {self.node} restart')
    cgroup.make(self.lab.name, self.node)
    self.start_starter()
    self.run('lifeboatd', ['--config', CONFIG, '--node', self.node, '--starter', STARTER_SOCKET], 'daemon',
             self.record)

  def start_starter(self):
    """No-op when it runs: as under systemd, it outlives the daemon."""
    if self.starter():
      return
    self.run('lifeboat-starter', ['--socket', STARTER_SOCKET], 'starter', self.starter_record)
    path = f'/proc/{self.init.pid}/root{STARTER_SOCKET}'
    end = time.monotonic() + READY_WITHIN
    while True:
      try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as there:
          there.connect(path)
        return
      except OSError as problem:
        if not self.starter() or time.monotonic() > end:
          self.fail(f'lifeboat-starter does not answer: {problem}')
      time.sleep(0.005)

  def run(self, name, args, leaf, record):
    """Starts a program in the node, in the group `leaf`, and keeps its pid in the file `record`."""
    program = os.path.join(self.lab.state['build'], name)
    if not os.access(program, os.X_OK):
      raise LabError(f'{program}: no such program; build it, or bring the lab up again with '
                     '--build DIR (or --no-daemon)')
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    child = os.fork()
    if child == 0:
      self.launch([program, *args], leaf, theirs)
    theirs.close()
    proc, problem = None, None
    with ours:
      while True:
        text, extra, *_ = ours.recvmsg(4096, socket.CMSG_SPACE(UCRED.size))
        if not text:
          break
        if text == b'started':  # the kernel says by whom, with the pid as seen from here
          proc = base.Proc(UCRED.unpack(extra[0][2])[0])
        else:
          problem = text.decode()
    os.waitpid(child, 0)
    if problem or proc is None:
      raise LabError(f'{name} of {self.node}: cannot start {program}: {problem}')
    with open(record, 'w', encoding='ascii') as file:
      json.dump({'pid': proc.pid, 'started': proc.started}, file)

  def launch(self, argv, leaf, report):
    """In a child: enters the node, forks twice there so that the program becomes a child of the
    node's init (a lone fork would leave it to the machine's), and reports."""
    try:
      cgroup.join(self.lab.name, self.node, leaf, os.getpid())
      log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
      self.init.enter()
      null = os.open('/dev/null', os.O_RDONLY)
      first = os.fork()
      if first:
        os.waitpid(first, 0)
        os._exit(0)
      if os.fork():
        os._exit(0)
      report.send(b'started')
      os.setsid()
      os.chdir('/')
      for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
      signal.pthread_sigmask(signal.SIG_SETMASK, set())
      for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signo, signal.SIG_DFL)
      os.execve(argv[0], argv, self.lab.environment())
    except (OSError, LabError) as error:
      report.send(str(error).encode())
    finally:
      os._exit(1)

  def has_ended(self):
    """Whether it does not run, and will not by itself."""
    return self.proc() is None

  def wait_ready(self, end=None):
    end = end or time.monotonic() + READY_WITHIN
    while True:
      proc = self.proc()
      problem = self.answers() if proc else None
      if proc and problem is None:
        return
      if proc is None and self.has_ended():
        self.fail('it ended before it was ready')
      if time.monotonic() > end:
        self.fail(f'not ready after {READY_WITHIN} s ({problem})')
      time.sleep(0.02)

  def stop(self, signo=signal.SIGTERM):
    """Ends the daemon alone: SIGTERM asks it to stop, SIGKILL is a crash. What it started lives."""
    proc = self.proc()
    if proc is None:
      return False
    fd = proc.open()
    if fd is None:
      return False
    signal.pidfd_send_signal(fd, signo)
    gone = select.select([fd], [], [], STOP_WITHIN)[0]
    os.close(fd)
    if not gone:
      self.fail(f'still there {STOP_WITHIN} s after {signal.Signals(signo).name} (pid {proc.pid}); '
                f'use: scripts/lab --name {self.lab.name} daemon {self.node} kill')
    return True
