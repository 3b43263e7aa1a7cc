"""How long the machine itself stood still: what no program on it can be blamed for.

A virtual machine's processors are taken away by its host, on some for most of a second. A process on each
processor sleeps a millisecond at a time, at a priority above everything that is measured: what it
oversleeps is the machine's doing (steal), not that of other programs. On one processor it may be a long step
of the kernel as well; while all of them stand still at once it is taken for the host's.

As a program: `stalls.py PROCESSOR FILE` watches one until it, or who started it, is ended.
"""
import os
import subprocess
import sys
import tempfile
import time

INTERVAL_S = 0.001
TOLD_S = 0.005       # shorter ones are not worth a line


def watch(processor, path):
  os.sched_setaffinity(0, {processor})
  os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
  parent, last = os.getppid(), time.time()
  with open(path, 'w', encoding='ascii', buffering=1) as file:
    while os.getppid() == parent:
      time.sleep(INTERVAL_S)
      now = time.time()
      if now - last - INTERVAL_S >= TOLD_S:
        file.write(f'{last:.6f} {now:.6f}\n')
      last = now


class Stalls:
  """Watches while it is open: `with Stalls() as stalls: ...; stalls.longest_ms(began, ended)`."""

  def __enter__(self):
    self.directory = tempfile.TemporaryDirectory(prefix='lifeboat-stalls-')
    self.paths = {str(cpu): os.path.join(self.directory.name, str(cpu)) for cpu in os.sched_getaffinity(0)}
    self.children = [subprocess.Popen([sys.executable, os.path.realpath(__file__), *words], stdin=subprocess.DEVNULL)
                     for words in self.paths.items()]
    return self

  def __exit__(self, *_):
    for child in self.children:
      child.kill()
      child.wait()
    self.directory.cleanup()

  def of_each(self):
    """For each processor: [(from, until)] so far, in seconds of the wall clock."""
    found = []
    for path in self.paths.values():
      found.append([])
      if os.path.exists(path):
        with open(path, encoding='ascii') as file:
          found[-1] += [tuple(float(word) for word in line.split()) for line in file if line.endswith('\n')]
    return found

  def watched(self):
    return all(child.poll() is None for child in self.children)

  def longest_ms(self, began, ended):
    """The longest that touches a span of time of the wall clock; 0: none of at least TOLD_S."""
    if not self.watched():
      return None   # nobody watched: no claim is made
    return longest_ms(sorted(sum(self.of_each(), [])), began, ended)

  def stolen_ms(self, began, ended):
    """For how much of a span of time of the wall clock all processors stood still at once."""
    return stolen_ms(self.of_each(), began, ended) if self.watched() else None


def tell(rows):
  """A line for whoever reads the table, if the machine had a part in it; else ''."""
  found = [row['machine_stall_ms'] for row in rows if row['machine_stall_ms']]
  return (f'The machine itself stood still for up to {max(found):.0f} ms in {len(found)} of {len(rows)} measurements '
          '(machine_stall_ms of each row): what these took is more than it would be elsewhere.\n') if found else ''


def longest_ms(stalls, began, ended):
  return round(max((1000 * (until - since) for since, until in stalls if until >= began and since <= ended),
                   default=0.0), 1)


def stolen_ms(processors, began, ended):
  common = [(began, ended)]
  for stalls in processors:
    common = [(max(a, c), min(b, d)) for a, b in common for c, d in stalls if max(a, c) < min(b, d)]
  return round(1000 * sum(until - since for since, until in common), 1)


if __name__ == '__main__':
  watch(int(sys.argv[1]), sys.argv[2])
