"""The lab's control groups: <cgroup2>/lifeboat-lab/LAB/NODE/{init,daemon,starter,containers}.

Works with cgroup v2 alone and with v1 + v2 side by side. The lab itself uses v2 only; a container
runtime may have made groups of the same name under v1, which `remove` takes away too.
"""
import os
import signal
import time

from lablib import base
from lablib.base import MARK, LabError


def hierarchies():
  """(mount point of v2, [mount points of v1])"""
  two, one = None, []
  for point, kind, _, root in base.mounts():
    if kind == 'cgroup2' and two is None:
      two = point
    elif kind == 'cgroup' and root == '/' and point not in one:
      one.append(point)
  if two is None:
    raise LabError('no cgroup2 is mounted on this machine; '
                   'try: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified')
  return two, one


def has_cpu(point):
  """Whether the cpu controller is at this mount point of v1."""
  return os.path.exists(os.path.join(point, 'cpu.shares'))


def relative(lab, node=None, leaf=None):
  return '/'.join(x for x in (MARK, lab, node, leaf) if x)


def make(lab, node):
  """Makes a node's groups and passes the controllers there are down to them.

  All but `cpu`: for the scheduler a lab is one group. Otherwise each container would be one (with
  autogroups, each session), and a rank that waits and calls sched_yield gives way only to those in its
  own: where ranks share processors, HPL then takes 1 to 3 times as long, by chance. It is a group of
  many machines: what else runs here counts as one of ten."""
  two, one = hierarchies()
  path = os.path.join(two, relative(lab, node))
  for leaf in ('init', 'daemon', 'starter'):
    os.makedirs(os.path.join(path, leaf), exist_ok=True)
  for part in (MARK, relative(lab), relative(lab, node)):
    group = os.path.join(two, part)
    for controller in base.read(os.path.join(group, 'cgroup.controllers')).split():
      if controller == 'cpu' and part != MARK:
        continue
      try:
        write(os.path.join(group, 'cgroup.subtree_control'), '+' + controller)
      except OSError:
        pass  # busy or not to be delegated: the containers go without it
  for point in filter(has_cpu, one):
    group = os.path.join(point, relative(lab))
    os.makedirs(group, exist_ok=True)
    write(os.path.join(group, 'cpu.shares'), str(10 * 1024))
  weight = os.path.join(two, relative(lab), 'cpu.weight')
  if os.path.exists(weight):
    write(weight, '1000')


def make_leaf(lab, node, leaf):
  two, _ = hierarchies()
  os.makedirs(os.path.join(two, relative(lab, node, leaf)), exist_ok=True)


def join(lab, node, leaf, pid):
  two, one = hierarchies()
  write(os.path.join(two, relative(lab, node, leaf), 'cgroup.procs'), str(pid))
  for point in filter(has_cpu, one):
    write(os.path.join(point, relative(lab), 'cgroup.procs'), str(pid))


def write(path, text):
  with open(path, 'w', encoding='ascii') as file:
    file.write(text)


def below(path):
  """The group and all groups in it, the innermost first."""
  return [directory for directory, _, _ in os.walk(path, topdown=False)]


def trees(part):
  """Where the group `part` exists: v2 first."""
  two, one = hierarchies()
  paths = [os.path.join(point, part) for point in [two, *one]]
  return [path for path in paths if os.path.isdir(path)]


def members(path):
  pids = []
  for group in below(path):
    pids += [int(pid) for pid in base.read(os.path.join(group, 'cgroup.procs'), '').split()]
  return [pid for pid in pids if pid]  # 0: a process of a pid namespace that cannot be seen here


def kill(part):
  """Ends everything in the group: cgroup.kill, or one by one where the kernel has none."""
  for path in trees(part):
    for group in below(path):
      for name, value in (('freezer.state', 'THAWED'), ('cgroup.freeze', '0')):
        control = os.path.join(group, name)
        if os.path.exists(control):
          write(control, value)
    control = os.path.join(path, 'cgroup.kill')
    if os.path.exists(control):
      write(control, '1')
      continue
    for pid in members(path):
      base.Proc(pid).kill(signal.SIGKILL)


def remove(part, seconds=5):
  """Kills what runs in the group and removes it; returns what could not be removed, and why."""
  end = time.monotonic() + seconds
  while True:
    kill(part)
    problems = []
    for path in trees(part):
      for group in below(path):
        try:
          os.rmdir(group)
        except FileNotFoundError:
          pass
        except OSError as error:
          problems.append(f'{group}: {error.strerror} (processes: {members(group) or "none"})')
    if not problems or time.monotonic() > end:
      break
    time.sleep(0.01)
  for path in trees(MARK):
    try:
      os.rmdir(path)
    except OSError:
      pass  # another lab's groups are in it
  return problems
