"""The baselines: what stock `runc checkpoint` and `runc restore` can do, between two nodes of a lab.

  runc       dump to a tmpfs, the images over the fabric, restore: the container is frozen for all of it
  criu-lazy  the same with CRIU's lazy pages: memory stays with a page server at the source and is
             fetched by `criu lazy-pages` at the target, after the container runs there

Everything that can be prepared is done before the freeze: both ends of the transfer are connected,
the target's network namespace and bundle are there. What they lack is not held against them:
the container's interface is moved by us as they cannot do it, and until the restore has ended its
namespace keeps still (a reset would end the connection).
"""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time

from benchlib import memory
from benchlib.harness import Failure
from lablib import cgroup
from lablib.base import read

IMAGES, BUNDLES, PIPE_MAX = '/run/images', '/run/bundles', 64 << 20
TRANSFER_PORT, PAGE_PORT = 7801, 7802
CRIU_CONFIG = '/run/criu-bench.conf'
STREAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'stream.py')
NO_RESETS = ('table ip bench { chain out { type filter hook output priority 0; '
             'tcp flags & rst == rst drop; }; }')


class Port:
  """A network namespace for a container on one node, with one interface on a fabric. Plugged or not,
  the interface itself stays up: a container that is restored in it finds it as it was."""

  def __init__(self, host, name, fabric):
    self.host, self.name, self.fabric, self.end = host, name, fabric, f'b-{name}'

  def make(self, address, mac):
    """Unplugged; with "ADDRESS/PREFIX"."""
    host, name, fabric = self.host, self.name, self.fabric
    host.run('ip', 'netns', 'add', name)
    host.run('ip', 'link', 'add', self.end, 'type', 'veth', 'peer', 'name', fabric, 'netns', name)
    inside = ['ip', '-n', name]
    host.run('ip', 'link', 'set', self.end, 'up')
    host.run(*inside, 'link', 'set', 'lo', 'up')
    host.run(*inside, 'link', 'set', fabric, 'address', mac, 'up')
    host.run(*inside, 'address', 'add', address, 'dev', fabric)
    host.run('ip', 'netns', 'exec', name, 'nft', NO_RESETS)

  def plug(self):
    self.host.run('ip', 'link', 'set', self.end, 'master', f'br-{self.fabric}')

  def unplug(self):
    self.host.run('ip', 'link', 'set', self.end, 'nomaster')

  def remove(self):
    self.host.run('ip', 'link', 'delete', self.end, check=False)
    self.host.run('ip', 'netns', 'delete', self.name, check=False)


class Container:
  """One that runc runs: its bundle is the image's config.json, with our command and namespace."""

  def __init__(self, host, name):
    self.host, self.name = host, name
    self.bundle, self.images = f'{BUNDLES}/{name}', f'{IMAGES}/{name}'

  def make(self, image, command, work):
    """Its bundle, out of the image's, and room for CRIU's images."""
    host, name = self.host, self.name
    with open(os.path.join(image, 'config.json'), encoding='utf-8') as file:
      config = json.load(file)
    config['process'].update(args=command, user={'uid': 0, 'gid': 0})
    config['root']['path'] = os.path.join(image, 'rootfs')
    config['mounts'].append({'destination': '/work', 'type': 'bind', 'source': work,
                             'options': ['rbind', 'rw']})
    for namespace in config['linux']['namespaces']:
      if namespace['type'] == 'network':
        namespace['path'] = f'/run/netns/{name}'
    # One of its own on each node, and in the node's: counted with it, and ended with it.
    config['linux']['cgroupsPath'] = '/' + cgroup.relative(host.lab.name, host.name, f'stock-{name}')
    config['annotations'] = {'org.criu.config': CRIU_CONFIG}
    os.makedirs(host.path(self.bundle))
    for place in (self.images, f'{self.images}.work'):
      os.makedirs(host.path(place))
    with open(host.path(f'{self.bundle}/config.json'), 'w', encoding='utf-8') as file:
      json.dump(config, file)
    with open(host.path(CRIU_CONFIG), 'w', encoding='utf-8') as file:
      file.write('network-lock skip\nmanage-cgroups ignore\nghost-limit 64M\n')

  def runc(self, *words, **options):
    return self.host.run('runc', *words, **options)

  def start(self):
    self.join(self.detached('run', '--detach', '--bundle', self.bundle, self.name))

  def detached(self, *words):
    """runc that leaves the container behind: no pipe of ours may be its output."""
    with open(self.host.path(f'{self.bundle}/runc.log'), 'w', encoding='utf-8') as file:
      return self.host.popen('runc', *words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

  def join(self, child):
    """Waits for a runc or a CRIU to end well."""
    _, err = child.communicate(timeout=600)
    if child.returncode != 0:
      said = read(self.host.path(f'{self.bundle}/runc.log'), '')
      raise Failure(f'{self.host.name}: {" ".join(child.args)}: {err or ""}{said}{self.criu_log()}')

  def finished(self, child, what):
    """Until CRIU has ended its dump or restore (it then writes its statistics): runc itself needs a
    while longer, for which nobody has to wait."""
    path = self.host.path(f'{self.images}.work/stats-{what}')
    while child.poll() is None and not os.path.exists(path):
      time.sleep(0.001)
    if child.poll() not in (None, 0):
      self.join(child)

  def criu_log(self):
    lines = []
    for name in ('dump.log', 'restore.log', 'lazy.log'):
      text = read(self.host.path(f'{self.images}.work/{name}'), '')
      lines += [line for line in text.splitlines() if 'Error' in line or 'Warn' in line][-8:]
    return '\n'.join(lines)

  def dump(self, *more, **options):
    """`runc checkpoint`, started."""
    words = ('runc', 'checkpoint', '--tcp-established', '--image-path', self.images, '--work-path',
             f'{self.images}.work', *more, self.name)
    return self.host.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, **options)

  def restore(self, *more):
    """`runc restore`, started."""
    return self.detached('restore', '--detach', '--tcp-established', '--image-path', self.images,
                         '--work-path', f'{self.images}.work', '--bundle', self.bundle, *more,
                         self.name)

  def remove(self):
    with contextlib.suppress(Failure):
      self.runc('delete', '--force', self.name, check=False, timeout=60)
    for place in (self.bundle, self.images, f'{self.images}.work'):
      shutil.rmtree(self.host.path(place), ignore_errors=True)


class Transfer:
  """Both ends, connected and waiting."""

  def __init__(self, source, target, fabric):
    address = target.host.address(fabric)
    common = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    self.receiver = target.host.popen(sys.executable, STREAM, 'receive', target.images, address,
                                      str(TRANSFER_PORT), stdin=subprocess.DEVNULL, **common)
    if self.receiver.stdout.readline() != 'listening\n':
      raise Failure(f'the receiver on {target.host.name}: {self.receiver.stderr.read()}')
    self.sender = source.host.popen(sys.executable, STREAM, 'send', source.images, address,
                                    str(TRANSFER_PORT), stdin=subprocess.PIPE, **common)

  def run(self):
    """Sends; the number of bytes."""
    out, err = self.sender.communicate('go\n', timeout=600)
    self.receiver.wait(60)
    if self.sender.returncode != 0 or self.receiver.returncode != 0:
      raise Failure(f'transfer: {err}{self.receiver.stderr.read()}')
    return int(out)

  def end(self):
    for child in (self.sender, self.receiver):
      if child.poll() is None:
        child.kill()
      child.wait()


def by_runc(source, target, ports, fabric):
  """Moves it; {bytes, frozen_bytes, parts_ms}."""
  transfer = Transfer(source, target, fabric)
  try:
    at = [time.monotonic()]
    dump = source.dump()
    source.finished(dump, 'dump')
    ports[0].unplug()
    at.append(time.monotonic())
    sent = transfer.run()
    at.append(time.monotonic())
    # Room for the restored memory, beside two copies of it; not waited for.
    free = threading.Thread(target=shutil.rmtree, args=(source.host.path(source.images), True))
    free.start()
    restore = target.restore()
    target.finished(restore, 'restore')
    ports[1].plug()
    at.append(time.monotonic())
    target.join(restore)
    source.join(dump)
    free.join()
  finally:
    transfer.end()
  parts = dict(zip(('dump', 'transfer', 'restore'), (1000 * (b - a) for a, b in zip(at, at[1:]))))
  return {'bytes': sent, 'frozen_bytes': sent, 'parts_ms': parts}


def lazily(source, target, ports, fabric):
  """Moves it by CRIU's lazy pages; {bytes, frozen_bytes, parts_ms}."""
  transfer = Transfer(source, target, fabric)
  address, before = source.host.address(fabric), source.host.sent(fabric)
  ready, tell = os.pipe()
  daemon = None
  try:
    at = [time.monotonic()]
    dump = source.dump('--lazy-pages', '--page-server', f'{address}:{PAGE_PORT}', '--status-fd',
                       str(tell), pass_fds=[tell])
    os.close(tell)
    tell = -1
    if os.read(ready, 1) != b'\0':  # the page server serves
      source.join(dump)
      raise Failure(f'runc checkpoint --lazy-pages ended: {source.criu_log()}')
    ports[0].unplug()
    at.append(time.monotonic())
    sent = transfer.run()
    at.append(time.monotonic())
    daemon = target.host.popen(
      'criu', 'lazy-pages', '--page-server', '--address', address, '--port', str(PAGE_PORT),
      '--images-dir', target.images, '--work-dir', f'{target.images}.work', '--log-file', 'lazy.log',
      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    socket = target.host.path(f'{target.images}.work/lazy-pages.socket')
    while not os.path.exists(socket) and daemon.poll() is None:
      time.sleep(0.001)
    restore = target.restore('--lazy-pages')
    target.finished(restore, 'restore')
    ports[1].plug()
    at.append(time.monotonic())
    target.join(daemon)
    source.join(dump)
    at.append(time.monotonic())
    target.join(restore)
  finally:
    transfer.end()
    for fd in (ready, tell):
      if fd >= 0:
        os.close(fd)
    if daemon is not None and daemon.poll() is None:
      daemon.kill()
  parts = dict(zip(('dump', 'transfer', 'restore', 'fetch'),
                   (1000 * (b - a) for a, b in zip(at, at[1:]))))
  return {'bytes': source.host.sent(fabric) - before, 'frozen_bytes': sent, 'parts_ms': parts}


class Pair:
  """The memory program in two containers: the mover, and its peer that stays."""

  def __init__(self, cluster, load, hosts, subnet):
    """hosts: [the mover's, its peer's]"""
    self.cluster, self.load, self.subnet = cluster, load, subnet
    self.fabric = cluster.lab.state['default_fabric']
    self.work = os.path.join(cluster.work, 'pair')
    self.hosts, self.children, self.ports = hosts, [], []
    self.peer = self.mover = self.port = None

  def start(self):
    os.makedirs(self.work)
    shutil.copy2(self.cluster.program, os.path.join(self.work, 'memory'))
    self.peer, _ = self.make(self.hosts[1], 1)
    self.mover, self.port = self.make(self.hosts[0], 0)
    for port in self.ports:
      port.plug()
    for container in (self.peer, self.mover):
      container.start()

  def make(self, host, rank):
    name = f'bench{rank}'
    with open(host.path('/proc/sys/fs/pipe-max-size'), 'w', encoding='ascii') as file:
      file.write(str(PIPE_MAX))  # CRIU's page server needs it without CAP_SYS_RESOURCE
    address = self.subnet.network_address + 250 * 256 + rank + 1
    port = Port(host, name, self.fabric)
    self.ports.append(port)
    port.make(f'{address}/{self.subnet.prefixlen}', f'02:be:00:00:00:{rank:02x}')
    command = memory.command(self.load, self.fabric, rank)
    container = Container(host, name)
    self.children.append(container)
    container.make(self.cluster.environment['BUNDLE'], command, self.work)
    return container, port

  def text(self):
    return memory.output(self.work)

  def move(self, target, fabric, how):
    container, port = self.make(target, 0)
    out = how(self.mover, container, (self.port, port), fabric)
    self.mover.remove()
    self.port.remove()
    self.mover, self.port = container, port
    return out

  def running(self):
    return all(json.loads(c.runc('state', c.name))['status'] == 'running'
               for c in (self.mover, self.peer))

  def stop(self):
    with open(os.path.join(self.work, 'stop'), 'w', encoding='ascii'):
      pass

  def remove(self):
    for container in self.children:
      container.remove()
    for port in self.ports:
      port.remove()
    shutil.rmtree(self.work, ignore_errors=True)
