"""What every part of the lab needs: errors, processes, namespaces, locks.

A process is never named by its pid alone: `Proc` is pid + start time, and a signal goes through a
pidfd opened before the start time is compared.
"""
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NODE_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 8192, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

MARK = 'lifeboat-lab'   # the init of a node carries "lifeboat-lab:LAB:NODE" in its command line
SWITCH = 'switch'       # the name of the node that holds the bridges between the nodes

libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
  """An error told to the user as it is: what, where, what to do."""


def state_root():
  return os.path.abspath(os.environ.get('LIFEBOAT_LAB_DIR') or '/run/lifeboat-lab')


def checked(result, what):
  if result != 0:
    code = ctypes.get_errno()
    raise OSError(code, f'{what}: {os.strerror(code)}')


def mount(source, target, fstype=None, flags=0, data=None):
  def encode(text):
    return text.encode() if text is not None else None
  checked(libc.mount(encode(source), encode(target), encode(fstype), ctypes.c_ulong(flags),
                     encode(data)),
          f'mount {fstype or source} on {target}')


def unmount(target, flags=0):
  checked(libc.umount2(target.encode(), flags), f'unmount {target}')


def private_mounts():
  """From here on this process's mounts are nobody else's."""
  mount('none', '/', None, MS_REC | MS_PRIVATE)


def pivot_root(path):
  """Makes a mount point the root; what was the root before is not reached any more."""
  os.chdir(path)
  checked(libc.pivot_root(b'.', b'.'), f'pivot_root to {path}')
  unmount('.', MNT_DETACH)
  os.chdir('/')


def unshare(flags):
  checked(libc.unshare(flags), 'unshare')


def die_with_parent():
  libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read(path, default=None):
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read()
  except OSError:
    if default is None:
      raise
    return default


def mounts(pid='self'):
  """(mount point, type, source, root) of every mount in the namespace of a process."""
  out = []
  for line in read(f'/proc/{pid}/mountinfo').splitlines():
    left, _, right = line.partition(' - ')
    fields, kind = left.split(' '), right.split(' ')
    point, root, source = (x.encode().decode('unicode_escape') for x in
                           (fields[4], fields[3], kind[1]))
    out.append((point, kind[0], source, root))
  return out


# ---- processes

def start_time(pid):
  """Clock ticks since boot at which the process started; None if it is gone or a zombie."""
  stat = read(f'/proc/{pid}/stat', '')
  fields = stat.rpartition(')')[2].split()
  return int(fields[19]) if len(fields) > 19 and fields[0] not in 'ZX' else None


class Proc:
  """One process: pid + start time."""

  def __init__(self, pid, started=None):
    self.pid = pid
    self.started = started if started is not None else start_time(pid)

  def alive(self):
    return self.started is not None and start_time(self.pid) == self.started

  def open(self):
    """A pidfd, or None if the process is gone."""
    try:
      fd = os.pidfd_open(self.pid)
    except ProcessLookupError:
      return None
    if self.alive():
      return fd
    os.close(fd)
    return None

  def kill(self, signo):
    """Sends a signal; False if the process was gone already."""
    fd = self.open()
    if fd is None:
      return False
    try:
      signal.pidfd_send_signal(fd, signo)
      return True
    except ProcessLookupError:
      return False
    finally:
      os.close(fd)

  def wait(self, seconds):
    """Waits until the process has ended; False on timeout."""
    fd = self.open()
    if fd is None:
      return True
    try:
      return bool(select.select([fd], [], [], seconds)[0])
    finally:
      os.close(fd)

  def enter(self, flags=NODE_NAMESPACES):
    """Moves the caller into this process's namespaces (of pids: its children)."""
    fd = self.open()
    if fd is None:
      raise LabError(f'process {self.pid} is gone')
    checked(libc.setns(fd, flags), f'enter the namespaces of process {self.pid}')
    os.close(fd)


def all_pids():
  return [int(name) for name in os.listdir('/proc') if name.isdigit()]


def find_inits(lab=None):
  """Every node's init on this machine, by its command line: [(lab, node, state root, Proc)]."""
  out = []
  for pid in all_pids():
    args = read(f'/proc/{pid}/cmdline', '').split('\0')
    if len(args) < 5 or args[2] != '_node' or not args[3].startswith(MARK + ':'):
      continue
    name, _, node = args[3][len(MARK) + 1:].partition(':')
    proc = Proc(pid)
    if proc.started is not None and lab in (None, name):
      out.append((name, node, args[4], proc))
  return out


def kill_all(procs, then=lambda: None, seconds=10):
  """SIGKILL to each, then `then`, then waits; returns those that still live."""
  for proc in procs:
    proc.kill(signal.SIGKILL)
  then()
  end = time.monotonic() + seconds
  return [p for p in procs if not p.wait(max(0.0, end - time.monotonic()))]


# ---- locks

@contextlib.contextmanager
def locked(directory, what, seconds=30):
  """Holds the lock on a directory (made if missing). The lock dies with its holder."""
  end = time.monotonic() + seconds
  while True:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
      fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
      continue
    try:
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if os.fstat(fd).st_ino == os.stat(directory).st_ino:
        break
    except (BlockingIOError, FileNotFoundError):
      pass
    os.close(fd)
    if time.monotonic() > end:
      raise LabError(f'{what} is busy: another command has held {directory} for {seconds} s; '
                     'wait for it or end it')
    time.sleep(0.02)
  try:
    yield
  finally:
    os.close(fd)
