"""Everything a leak would show up in, in a form that can be compared before and after.

Names, not numbers: no pids, counters or times, so that two snapshots of the same state are equal.
"""
import collections
import fcntl
import json
import os
import re
import subprocess

from lablib import base, cgroup
from lablib.base import LabError

NS_GET_PARENT = 0xb702
FILES = ('/run', '/var/lib/lifeboat', '/dev/shm')
KEPT = {'/run/criu.kdat'}   # CRIU's probe of the kernel: meant to stay


def take(lab):
  owners = Owners()
  nodes = {}
  for node in lab.state['nodes']:
    init = lab.init(node['name'])
    nodes[node['name']] = of_node(lab, node['name'], init, owners) if init else 'off'
  return {'nodes': nodes, 'host': of_host(owners)}


def of_node(lab, name, init, owners):
  out = network(init)
  out['mounts'] = sorted(' '.join(fields) for fields in base.mounts(init.pid))
  pids = owners.pids(f'{lab.name}:{name}')
  out['processes'] = sorted(filter(None, map(describe, pids)))
  out['net_namespaces'] = len({n for pid in pids for n in net_namespaces(pid)} |
                              {m[3] for m in base.mounts(init.pid) if m[3].startswith('net:')})
  out['cgroups'] = cgroups(cgroup.relative(lab.name, name))
  out['files'] = [path for top in FILES for path in files(init, top)]
  return out


def network(init):
  def run(*command, given=''):
    done = subprocess.run(['nsenter', f'--net=/proc/{init.pid}/ns/net', *command], input=given,
                          text=True, capture_output=True, check=False)
    return done.stdout
  links = json.loads(run('ip', '-j', 'address'))
  names = [link['ifname'] for link in links]
  ports = collections.defaultdict(list)
  for link in links:
    if 'master' in link:
      ports[link['master']].append(link['ifname'])
  filters = run('tc', '-force', '-batch', '-', given=''.join(
    f'filter show dev {n}\nfilter show dev {n} ingress\n' for n in names if n != 'lo'))
  routes = re.sub(r' linkdown\b', '', run('ip', 'route', 'show', 'table', 'all'))
  try:
    nft = run('nft', '-s', 'list', 'ruleset')
  except FileNotFoundError:
    nft = ''
  return {
    'links': sorted(names),
    'bridge_ports': {bridge: sorted(members) for bridge, members in sorted(ports.items())},
    'addresses': sorted(f'{link["ifname"]} {a["local"]}/{a["prefixlen"]}'
                        for link in links for a in link['addr_info']),
    'routes': sorted(line.strip() for line in routes.splitlines()),
    'qdiscs': sorted(q.strip() for q in run('tc', 'qdisc', 'show').splitlines()),
    'filters': [line.strip() for line in filters.splitlines()],
    'nft': [line.strip() for line in nft.splitlines()],
  }


def describe(pid):
  comm = base.read(f'/proc/{pid}/comm', '').strip()
  line = base.read(f'/proc/{pid}/cmdline', '').replace('\0', ' ').strip()
  return f'{comm}: {line or "(zombie)"}' if comm else None


def net_namespaces(pid):
  """The network namespaces a process lives in or holds open."""
  out, top = set(), f'/proc/{pid}'
  try:
    paths = [f'{top}/ns/net'] + [f'{top}/fd/{fd}' for fd in os.listdir(f'{top}/fd')]
  except OSError:
    return out
  for path in paths:
    try:
      target = os.readlink(path)
    except OSError:
      continue
    if target.startswith('net:['):
      out.add(target)
  return out


def cgroups(part):
  out = []
  for path in cgroup.trees(part):
    hierarchy = path[:-len(part)].rstrip('/').rpartition('/')[2]
    out += [f'{hierarchy}:{os.path.relpath(group, path)}' for group in cgroup.below(path)]
  return sorted(out)


def files(init, top):
  root = f'/proc/{init.pid}/root'
  out = []
  for directory, inner, names in os.walk(root + top):
    out += [os.path.join(directory, name)[len(root):] for name in inner + names]
  return sorted(path for path in out if path not in KEPT)


class Owners:
  """Which node of which lab each process belongs to, by its pid namespace or one above it."""

  def __init__(self):
    self.known = {}
    for lab, node, _, proc in base.find_inits():
      try:
        self.known[os.stat(f'/proc/{proc.pid}/ns/pid').st_ino] = f'{lab}:{node}'
      except OSError:
        pass  # it has just ended
    self.processes = collections.defaultdict(list)
    for pid in base.all_pids():
      try:
        fd = os.open(f'/proc/{pid}/ns/pid', os.O_RDONLY)
      except OSError:
        continue
      self.processes[self.owner(fd)].append(pid)

  def owner(self, fd):
    inode = os.fstat(fd).st_ino
    if inode not in self.known:
      try:
        parent = fcntl.ioctl(fd, NS_GET_PARENT)
      except OSError:
        self.known[inode] = None  # the outermost we may see
      else:
        self.known[inode] = self.owner(parent)
    os.close(fd)
    return self.known[inode]

  def pids(self, owner):
    return self.processes[owner]


def of_host(owners):
  """What is there beside the labs (a process entering a node from outside is not counted)."""
  nets = {n for pid in owners.pids(None) for n in net_namespaces(pid)}
  labs = {n for owner, pids in owners.processes.items() if owner for pid in pids for n in net_namespaces(pid)}
  links = json.loads(subprocess.run(['ip', '-j', 'link', 'show', 'type', 'veth'], text=True,
                                    capture_output=True, check=False).stdout or '[]')
  return {'net_namespaces': len(nets - labs), 'mounts': len(base.mounts()),
          'veths': sorted(link['ifname'] for link in links)}


# ---- comparing

def flatten(value, path=''):
  """(path, text) of every leaf."""
  if isinstance(value, dict):
    for key, inner in sorted(value.items()):
      yield from flatten(inner, f'{path}.{key}' if path else key)
  elif isinstance(value, list):
    for inner in value:
      yield path, str(inner)
  else:
    yield path, str(value)


def difference(before, after):
  """Lines "PATH: + what came" and "PATH: - what went"."""
  old, new = collections.Counter(flatten(before)), collections.Counter(flatten(after))
  changes = [(path, '-', text) for path, text in (old - new).elements()]
  changes += [(path, '+', text) for path, text in (new - old).elements()]
  return [f'{path}: {sign} {text}' for path, sign, text in sorted(changes)]


def load(path):
  try:
    return json.loads(base.read(path))
  except (OSError, ValueError) as error:
    raise LabError(f'{path}: {error}; make it with: scripts/lab snapshot --json > {path}') from None
