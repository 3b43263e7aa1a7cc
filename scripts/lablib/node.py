"""`scripts/lab _node`: the init of one node, that is PID 1 of its namespaces.

The command line is `_node lifeboat-lab:LAB:NODE STATE_ROOT [BUILD [TREE]]`; with BUILD, where the programs
are, the node runs systemd; with TREE, too, it boots the system in it. A first process makes the namespaces
and forks; its child becomes PID 1 and keeps the command line, by which `down` finds it. Protocol:
stdout carries "pid N", then "ready"; stdin carries "go" once the whole lab stands. If stdin ends
before that, whoever was building the lab has died, and the node goes away by itself.

SIGKILL to this process is a power cut: the kernel ends everything in the node.
"""
import os
import re
import signal
import socket
import sys

from lablib import base, debian, systemd

# The node's own files: everything else of the host's tree is the lab's shared storage.
OWN_TMPFS = {'/run': 'mode=755', '/dev/shm': 'mode=1777'}
STATE_DIR = '/var/lib/lifeboat'
RUN_DIR = '/run/lifeboat'


def main(marker, state_root, build=None, tree=None):
  lab, node = marker.split(':')[1:]
  os.setsid()
  base.unshare(base.NODE_NAMESPACES)
  told, tell = os.pipe()
  pid = os.fork()
  if pid:
    os.write(1, f'pid {pid}\n'.encode())
    os._exit(0)
  # "pid" comes before "ready", however slow the parent is: its end closes the pipe.
  os.close(tell)
  os.read(told, 1)
  os.close(told)
  # From here on PID 1. Blocked signals are ignored until they are asked for below.
  signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP})
  try:
    socket.sethostname(node)
    no_ipv6()
    if tree:
      debian.enter(os.path.join(state_root, lab), node, tree)
    else:
      set_up(os.path.join(state_root, lab), node)
      if build:
        systemd.furnish(node, build)
  except OSError as error:
    print(f'node {node}: {error}', file=sys.stderr, flush=True)
    os._exit(1)
  os.write(1, b'ready\n')
  if os.read(0, 16)[:2] != b'go':
    os._exit(1)
  null = os.open('/dev/null', os.O_RDWR)
  for fd in (0, 1):
    os.dup2(null, fd)
  if build:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    systemd.boot(marker, state_root, debian.TARGET if tree else systemd.TARGET)
  reap_until_told()


def reap_until_told():
  while True:
    info = signal.sigwaitinfo({signal.SIGCHLD, signal.SIGTERM})
    if info.si_signo == signal.SIGTERM and info.si_pid == 0:  # 0: the sender is outside the node
      os._exit(0)
    try:
      while os.waitpid(-1, os.WNOHANG)[0]:
        pass
    except ChildProcessError:
      pass


def set_up(lab_dir, node):
  os.chdir('/')
  os.umask(0o022)
  base.private_mounts()
  # First what comes from the lab's directory: it may lie below /run, which is covered next.
  base.mount(os.path.join(lab_dir, node, 'state'), STATE_DIR, None, base.MS_BIND)
  base.mount(os.path.join(lab_dir, 'hosts'), os.path.realpath('/etc/hosts'), None, base.MS_BIND)
  for path, options in OWN_TMPFS.items():
    base.mount('tmpfs', path, 'tmpfs', base.MS_NOSUID | base.MS_NODEV, options)
  for path in ('/run/lock', RUN_DIR):
    os.mkdir(path, 0o755)
  base.mount('proc', '/proc', 'proc', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  own_sysfs()


def no_ipv6():
  """No neighbour discovery in the measurements."""
  for scope in ('all', 'default'):
    try:
      with open(f'/proc/sys/net/ipv6/conf/{scope}/disable_ipv6', 'w', encoding='ascii') as file:
        file.write('1')
    except FileNotFoundError:
      pass  # a kernel without IPv6


def own_sysfs():
  """Mounts a sysfs that shows this node's network devices, with the host's cgroups etc. in it."""
  inside = [point for point, *_ in base.mounts() if re.match('/sys/.', point)]
  top = sorted({p for p in inside if not any(p.startswith(q + '/') for q in inside)})
  aside = '/run/.sys'
  os.mkdir(aside)
  base.mount('/sys', aside, None, base.MS_BIND | base.MS_REC)
  base.mount('sysfs', '/sys', 'sysfs', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  for point in top:
    if os.path.isdir(point):
      base.mount(aside + point[len('/sys'):], point, None, base.MS_BIND | base.MS_REC)
  base.unmount(aside, base.MNT_DETACH)
  os.rmdir(aside)
