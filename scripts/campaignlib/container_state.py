"""What a container is made of, beside the bytes of its memory: taken before a migration and after it,
and compared. (The bytes are checked by what the application computes from them.)

Left out is what moving has to change, or the application itself changes while it runs: numbers of
devices, inodes and sockets; times; how much memory it uses; connections that it has opened or closed since.
"""
import contextlib
import copy
import json
import os
import re
import subprocess
import time

from benchlib.harness import Failure
from lablib.base import mounts, read

SETTLE_S = 3     # what still differs after this is a difference
TOLD_MAX = 200   # characters; of longer lists only what differs is told
TCP_STATES = {'01': 'established', '0A': 'listening'}   # include/net/tcp_states.h
LIMITS = ('memory.max', 'memory.high', 'memory.swap.max', 'pids.max', 'cpu.max', 'cpu.weight', 'cgroup.freeze',
          'memory.limit_in_bytes', 'cpu.shares', 'cpu.cfs_quota_us')


def status_of(pid):
  return dict(line.split(':', 1) for line in read(f'/proc/{pid}/status').splitlines() if ':' in line)


def tcp_sockets(pid):
  """{name of a TCP socket: its ends, as the kernel writes addresses, and its state}, of those that have an address;
  None of one that is being closed."""
  lines = [line for family in ('tcp', 'tcp6') for line in read(f'/proc/{pid}/net/{family}', '').splitlines()[1:]]
  return {f'socket:[{words[9]}]': f'{words[1]}-{words[2]} {TCP_STATES[words[3]]}' if words[3] in TCP_STATES else None
          for words in map(str.split, lines)}


def open_files(pid):
  """{descriptor: what it is}, the numbers of sockets, pipes and the like left out; and a connection that one
  of its ends has closed, because the other one does so when it looks. One that nobody has accepted yet has none."""
  out, directory, sockets = {}, f'/proc/{pid}/fd', tcp_sockets(pid)
  for fd in os.listdir(directory):
    with contextlib.suppress(FileNotFoundError):   # closed by now
      name = os.readlink(os.path.join(directory, fd))
      socket = sockets.get(name, '')
      if socket is not None:
        out[fd] = f'{re.sub(r":.[0-9]+.$", "", name)} {socket}'.strip()
  return out


def mapped_files(pid):
  lines = (line.split(maxsplit=5) for line in read(f'/proc/{pid}/maps').splitlines())
  return sorted({f'{words[1]} {words[5]}' for words in lines if len(words) == 6 and words[5][0] == '/'})


def of_process(pid, inner):
  """One process; `inner`: {pid as seen from here: as seen in the container}."""
  status = status_of(pid)
  return {'name': status['Name'].strip(), 'parent': inner.get(int(status['PPid']), 0),
          'threads': status['Threads'].strip(), 'user': status['Uid'].split(),
          'groups': status['Gid'].split(), 'capabilities': status['CapEff'].strip(),
          'command': read(f'/proc/{pid}/cmdline').split('\0'), 'cwd': os.readlink(f'/proc/{pid}/cwd'),
          'limits': [' '.join(line.split()) for line in read(f'/proc/{pid}/limits').splitlines()],
          'files': open_files(pid), 'mapped': mapped_files(pid)}


def network(pid):
  def ask(*words):
    done = subprocess.run(['nsenter', f'--net=/proc/{pid}/ns/net', 'ip', '-j', *words], text=True,
                          capture_output=True, check=False, timeout=20)
    return json.loads(done.stdout or '[]')
  links = [{'name': link['ifname'], 'mac': link.get('address'), 'mtu': link['mtu'], 'up': 'UP' in link['flags'],
            'addresses': sorted(f'{a["local"]}/{a["prefixlen"]}' for a in link['addr_info'])}
           for link in ask('address')]
  routes = sorted(f'{r["dst"]} {r.get("gateway", "")} {r["dev"]}' for r in ask('route'))
  return {'links': sorted(links, key=lambda link: link['name']), 'routes': routes}


def inner_pids(pids):
  return {pid: int(status_of(pid)['NSpid'].split()[-1]) for pid in pids}


def take(cluster, container, node):
  """The state of a container that runs on `node`."""
  group = cluster.cgroup_of(container, node)
  inner = inner_pids(cluster.pids_of(container, node))
  init = next(pid for pid, number in inner.items() if number == 1)
  return {'processes': {number: of_process(pid, inner) for pid, number in inner.items()},
          'mounts': sorted([point, kind] for point, kind, *_ in mounts(init)),
          'network': network(init),
          'cgroup': {name: read(os.path.join(group, name)).strip() for name in LIMITS
                     if os.path.exists(os.path.join(group, name))}}


def differences(before, after, path=''):
  """["processes.7.files.3: 'socket' became 'nothing'"]"""
  if isinstance(before, dict) and isinstance(after, dict):
    return [line for key in sorted(before.keys() | after.keys(), key=str)
            for line in differences(before.get(key), after.get(key), f'{path}.{key}' if path else str(key))]
  if before == after:
    return []
  if isinstance(before, list) and isinstance(after, list) and len(json.dumps([before, after])) >= TOLD_MAX:
    gone, new = [x for x in before if x not in after], [x for x in after if x not in before]
    return [f'{path}: {tell(gone)} of {len(before)} became {tell(new)} of {len(after)}']
  return [f'{path}: {tell(before)} became {tell(after)}']


def without_new_sockets(after, before):
  """`after` without what the application has opened since: MPI connects when there is a first message."""
  after = copy.deepcopy(after)
  for number, process in after['processes'].items():
    had = before['processes'].get(number, {}).get('files', {})
    process['files'] = {fd: what for fd, what in process['files'].items()
                        if fd in had or not what.startswith('socket')}
  return after


def without_closed_sockets(before, after, ends):
  """`before` without connections between containers that are open at neither end now: MPI closes one of two that
  both ends have begun. One that a migration has lost is open at its other end. `ends`: of all containers."""
  before = copy.deepcopy(before)
  addresses = {ours.partition(':')[0] for ours, _ in ends}
  for number, process in before['processes'].items():
    has = after['processes'].get(number, {}).get('files', {})
    for fd, what in list(process['files'].items()):
      connection = re.fullmatch(r'socket (\S+)-(\S+) established', what)
      if connection and fd not in has:
        ours, theirs = connection.groups()
        if theirs.partition(':')[0] in addresses and (theirs, ours) not in ends:
          del process['files'][fd]
  return before


def all_ends(cluster):
  """{(address here, address there)} of the established connections of all containers."""
  ends = set()
  for container, node in cluster.where().items():
    for pid in cluster.pids_of(container, node)[:1]:
      sockets = [what.split() for what in tcp_sockets(pid).values() if what]
      ends |= {tuple(addresses.split('-')) for addresses, state in sockets if state == 'established'}
  return ends


def tell(value):
  text = 'nothing' if value is None else json.dumps(value)
  return text if len(text) < TOLD_MAX else text[:TOLD_MAX - 3] + '...'


def compare(cluster, container, node, before):
  """What is not as it was `before`; a process that is just being started or reaped gets time."""
  end = time.monotonic() + SETTLE_S
  while True:
    try:
      after = without_new_sockets(take(cluster, container, node), before)
      found = differences(before, after)
      if found:
        found = differences(without_closed_sockets(before, after, all_ends(cluster)), after)
    except (Failure, OSError, StopIteration, KeyError) as error:   # something ended while it was looked at
      found = [f'cannot be looked at: {error}']
    if not found or time.monotonic() > end:
      return found
    time.sleep(0.2)
