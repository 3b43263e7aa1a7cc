"""Faults made on purpose, by which the checks of a campaign are themselves checked (`spoil` in a spec).

  page  one bit in each of some pages of a rank's largest writable memory is changed
  slow  a rank stands still for a while
"""
import os
import time

from benchlib.harness import Failure
from lablib.base import read

PAGES, SLOW_S = 32, 5


def largest_mapping(pid):
  """(start, end) of its largest private writable mapping."""
  areas = []
  for line in read(f'/proc/{pid}/maps').splitlines():
    words = line.split()
    if words[1] == 'rw-p':
      start, end = (int(x, 16) for x in words[0].split('-'))
      areas.append((end - start, start, end))
  if not areas:
    raise Failure(f'process {pid} has no writable memory')
  return max(areas)[1:]


def spoil_pages(pid):
  start, end = largest_mapping(pid)
  step = max(4096, (end - start) // PAGES // 4096 * 4096)
  with open(f'/proc/{pid}/mem', 'r+b', buffering=0) as memory:
    for at in range(start + 64, end, step):
      memory.seek(at)
      byte = memory.read(1)
      memory.seek(at)
      memory.write(bytes([byte[0] ^ 1]))


def do(what, cluster, container):
  """Returns what was done, in words."""
  node = cluster.where()[container]
  if what == 'slow':
    control = os.path.join(cluster.cgroup_of(container, node), 'cgroup.freeze')
    for value in ('1', '0'):
      with open(control, 'w', encoding='ascii') as file:
        file.write(value)
      time.sleep(SLOW_S if value == '1' else 0)
    return f'{container} stood still for {SLOW_S} s'
  pids = cluster.pids_of(container, node)
  resident = lambda pid: int(read(f'/proc/{pid}/statm').split()[1])
  spoil_pages(max(pids, key=resident))
  return f'{PAGES} bits changed in the memory of {container}'
