"""Commands in the nodes of a lab, and what they cost: processor time of a node, bytes on a wire."""
import mmap
import os
import subprocess

from benchlib.harness import Failure
from lablib import cgroup
from lablib.base import read


class Host:
  """One node: runs commands in it as if it were a machine."""

  def __init__(self, lab, name):
    self.lab, self.name = lab, name
    self.init = lab.running(name)
    two, _ = cgroup.hierarchies()
    self.group = os.path.join(two, cgroup.relative(lab.name, name))

  def address(self, fabric):
    node = next(n for n in self.lab.state['nodes'] if n['name'] == self.name)
    return node['addresses'][fabric]

  def path(self, inside):
    """A path of the node's own file systems, as this process can open it."""
    return f'/proc/{self.init.pid}/root{inside}'

  def popen(self, *command, **options):
    def join():
      with open(os.path.join(self.group, 'init', 'cgroup.procs'), 'w', encoding='ascii') as file:
        file.write('0')
    enter = ['nsenter', '-t', str(self.init.pid), '-m', '-u', '-i', '-n', '-p', '--wd=/']
    return subprocess.Popen([*enter, *command], text=True, preexec_fn=join, **options)

  def run(self, *command, check=True, timeout=600):
    child = self.popen(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    try:
      out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      child.kill()
      raise Failure(f'{self.name}: {" ".join(command)} does not end in {timeout} s') from None
    if check and child.returncode != 0:
      raise Failure(f'{self.name}: {" ".join(command)}: status {child.returncode}: {out}{err}')
    return out

  def cpu_s(self):
    """Processor time spent in the node so far: its daemon, its commands, its containers."""
    return int(read(os.path.join(self.group, 'cpu.stat')).split()[1]) / 1e6

  def sent(self, fabric):
    """Bytes that left the node over a fabric so far."""
    done = read(self.path(f'/sys/class/net/up-{fabric}/statistics/tx_bytes'))
    return int(done)


def warm_memory(megabytes):
  """Touches so much free memory, at most all there is. A virtual machine may have given it back to its
  host, from which it comes at 0.3 GB/s at the next touch (measured; else 10 GB/s), a few seconds after it
  was freed: so right before a measurement, for whoever is measured."""
  available = next(int(line.split()[1]) // 1024 for line in read('/proc/meminfo').splitlines()
                   if line.startswith('MemAvailable:'))
  size = max(0, min(megabytes, available - 1024)) << 20
  if size == 0:
    return
  with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
    memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, size, 4096):
      memory[at] = 1
