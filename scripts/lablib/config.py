"""configs/lab.yaml -> Config, and the lifeboat.yaml of each node.

Every mistake is told as FILE:LINE: path: what is wrong.
"""
import copy
import difflib
import ipaddress
import os
import re

import yaml

from lablib import node as nodes
from lablib import pki
from lablib.base import SWITCH, LabError

FIRST_HOST = 10     # the first node is 10.1.0.10; containers get 10.1.1.0 and up
QUEUE = '10ms'      # the longest a packet may wait in a shaper: the buffer of a real switch
RESERVED = {SWITCH, 'all'}
OWNED = ('cluster', 'paths.state_dir', 'paths.run_dir', 'paths.cgroup')  # not to be overridden


class Map(dict):
  """A mapping that knows the line of each of its keys."""
  lines: dict
  line: int


class Loader(yaml.SafeLoader):
  def mapping(self, node):
    out = Map()
    out.lines, out.line = {}, node.start_mark.line + 1
    for key_node, value_node in node.value:
      key = self.construct_object(key_node, deep=True)
      line = key_node.start_mark.line + 1
      if key in out.lines:
        raise LabError(f'{self.name}:{line}: key {key!r} appears twice '
                       f'(first at line {out.lines[key]})')
      out.lines[key] = line
      out[key] = self.construct_object(value_node, deep=True)
    return out


Loader.add_constructor('tag:yaml.org,2002:map', Loader.mapping)


class Config:
  """A lab as described by its file: fabrics, nodes, overrides."""

  def __init__(self, path):
    self.path = path
    try:
      with open(path, encoding='utf-8') as file:
        top = yaml.load(file, Loader)  # a SafeLoader
    except OSError as error:
      raise LabError(f'{path}: {error.strerror}; name the lab\'s description with --file') from None
    except yaml.YAMLError as error:
      raise LabError(f'{path}: not YAML: {error}') from None
    if not isinstance(top, Map):
      raise LabError(f'{path}:1: expected a mapping with the keys fabrics and nodes')
    self.keys(top, '', ('fabrics', 'nodes'), ('default_fabric', 'lifeboat'))
    self.fabrics = self.items(top, 'fabrics', self.fabric)
    self.nodes = self.items(top, 'nodes', self.node)
    names = [f['name'] for f in self.fabrics]
    self.default_fabric = top.get('default_fabric', names[-1])
    if self.default_fabric not in names:
      self.fail(top, 'default_fabric', f'no such fabric; there are {", ".join(names)}')
    self.lifeboat = self.overrides(top, '')
    self.give_addresses()

  def fail(self, where, key, what):
    raise LabError(f'{self.path}:{where.lines.get(key, where.line)}: {key}: {what}')

  def keys(self, where, path, required, optional):
    if not isinstance(where, Map):
      raise LabError(f'{self.path}: {path}: expected a mapping')
    for key in where:
      if key not in required + optional:
        near = difflib.get_close_matches(str(key), required + optional, 1)
        self.fail(where, key, 'unknown key' + (f'; did you mean {near[0]!r}?' if near else ''))
    for key in required:
      if key not in where:
        raise LabError(f'{self.path}:{where.line}: {path}{key}: missing')

  def items(self, top, key, parse):
    if not isinstance(top[key], list) or not top[key]:
      self.fail(top, key, 'expected a list with at least one entry')
    out = []
    for index, item in enumerate(top[key]):
      parsed = parse(item, f'{key}[{index}].')
      if parsed['name'] in [other['name'] for other in out]:
        self.fail(item, 'name', f'{parsed["name"]!r} appears twice in {key}')
      out.append(parsed)
    return out

  def text(self, where, key, pattern, form):
    value = str(where[key])
    if not re.fullmatch(pattern, value):
      self.fail(where, key, f'expected {form}, got {value!r}')
    return value

  def fabric(self, item, path):
    self.keys(item, path, ('name', 'subnet', 'rate', 'burst'), ('queue', 'mtu'))
    name = self.text(item, 'name', '[a-z0-9]{1,8}', 'up to 8 of a-z and 0-9')
    try:
      subnet = ipaddress.IPv4Network(str(item['subnet']))
    except ValueError as error:
      self.fail(item, 'subnet', str(error))
    rate = self.text(item, 'rate', r'[0-9.]+ ?[kmgKMG]bit', 'a rate such as 10Gbit')
    burst = self.text(item, 'burst', r'[0-9]+[km]b', 'a size such as 512kb')
    item.setdefault('queue', QUEUE)
    queue = self.text(item, 'queue', '[0-9]+[mu]s', 'a time such as 10ms')
    mtu = item.get('mtu', 1500)
    if not isinstance(mtu, int) or not 576 <= mtu <= 65535:
      self.fail(item, 'mtu', f'expected an integer from 576 to 65535, got {mtu!r}')
    return {'name': name, 'subnet': subnet, 'rate': rate.replace(' ', ''), 'burst': burst,
            'queue': queue, 'mtu': mtu}

  def node(self, item, path):
    self.keys(item, path, ('name',), ('role', 'memory', 'slots', 'addresses', 'lifeboat'))
    name = self.text(item, 'name', '[a-z][a-z0-9]{0,5}', 'a letter and up to 5 of a-z and 0-9')
    if name in RESERVED:
      self.fail(item, 'name', f'{name!r} is taken by the lab itself')
    out = {'name': name, 'role': item.get('role', 'compute'), 'addresses': {}}
    if out['role'] not in ('head', 'compute'):
      self.fail(item, 'role', f'expected head or compute, got {out["role"]!r}')
    out.update({key: item[key] for key in ('memory', 'slots') if key in item})
    addresses = item.get('addresses', Map())
    if not isinstance(addresses, Map):
      self.fail(item, 'addresses', 'expected a mapping from fabric to address')
    out['wanted'], out['lifeboat'] = addresses, self.overrides(item, path)
    return out

  def overrides(self, where, path):
    value = where.get('lifeboat') or {}
    if not isinstance(value, dict):
      self.fail(where, 'lifeboat', 'expected a mapping of lifeboat.yaml keys')
    for owned in OWNED:
      inner = value
      for key in owned.split('.'):
        inner = inner.get(key) if isinstance(inner, dict) else None
      if inner is not None:
        self.fail(where, 'lifeboat', f'{path}lifeboat.{owned} is set by the lab itself; remove it')
    return value

  def give_addresses(self):
    for fabric in self.fabrics:
      name, subnet, taken = fabric['name'], fabric['subnet'], {}
      for other in self.fabrics:
        if other is not fabric and subnet.overlaps(other['subnet']):
          raise LabError(f'{self.path}: fabrics {name} and {other["name"]}: their subnets overlap')
      for index, node in enumerate(self.nodes):
        given = node['wanted'].get(name)
        try:
          address = ipaddress.IPv4Address(given or int(subnet[0]) + FIRST_HOST + index)
        except ValueError as error:
          self.fail(node['wanted'], name, str(error))
        if address not in subnet or address in taken:
          raise LabError(f'{self.path}: node {node["name"]}: {address} is ' + (
            f'taken by {taken[address]}' if address in taken else f'outside of {subnet}'))
        taken[address] = node['name']
        node['addresses'][name] = str(address)
    known = [fabric['name'] for fabric in self.fabrics]
    for node in self.nodes:
      for name in node.pop('wanted'):
        if name not in known:
          raise LabError(f'{self.path}: node {node["name"]}: addresses.{name}: no such fabric')

  def hosts(self):
    """The /etc/hosts of every node."""
    lines = ['127.0.0.1 localhost']
    lines += [f'{n["addresses"][self.default_fabric]} {n["name"]}' for n in self.nodes]
    return '\n'.join(lines) + '\n'

  def lifeboat_yaml(self, lab, node, cgroup):
    """The text of one node's lifeboat.yaml."""
    out = {
      'cluster': lab,
      'paths': {'state_dir': nodes.STATE_DIR, 'run_dir': nodes.RUN_DIR, 'criu': criu_path(),
                'crun': 'crun', 'cgroup': cgroup},
      'fabrics': [{'name': f['name'], 'bridge': f'br-{f["name"]}', 'subnet': str(f['subnet']),
                   'rate': f['rate']} for f in self.fabrics],
      'default_fabric': self.default_fabric,
      'nodes': [{k: v for k, v in n.items() if k != 'lifeboat'} for n in self.nodes],
      'peer': {'port': 7420},
      # Both ends of a migration are on this machine, which has enough to do without encrypting pages.
      'security': {**pki.FILES, 'pages': 'plain'},
      # The machine's own troubles are not those of a node of the lab.
      'sources': {'root': f'{nodes.STATE_DIR}/hardware',
                  **{source: {'enabled': False} for source in ('journal', 'smart', 'nvme', 'ipmi')}},
    }
    merge(out, self.lifeboat)
    merge(out, node['lifeboat'])
    return (f'# {node["name"]} of the lab {lab}: written by scripts/lab from {self.path}\n' +
            ''.join(entry(key, plain(value)) for key, value in out.items()))


def entry(key, value):
  """One top-level entry: each item of a list on a line of its own."""
  def line(inner):
    return yaml.dump(inner, sort_keys=False, default_flow_style=True, width=10000).strip()
  if isinstance(value, list) and value:
    return f'{key}:\n' + ''.join(f'  - {line(item)}\n' for item in value)
  return line({key: value})[1:-1] + '\n'


def merge(into, overrides):
  for key, value in overrides.items():
    if isinstance(value, dict) and isinstance(into.get(key), dict):
      merge(into[key], value)
    else:
      into[key] = copy.deepcopy(value)


def plain(value):
  if isinstance(value, dict):
    return {key: plain(inner) for key, inner in value.items()}
  return [plain(inner) for inner in value] if isinstance(value, list) else value


def criu_path():
  cache = os.environ.get('LIFEBOAT_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'lifeboat')
  path = os.path.abspath(os.path.join(cache, 'bin', 'criu'))
  return path if os.access(path, os.X_OK) else 'criu'
