"""What `scripts/soak faults` does to a lab: each fault is armed, strikes, and is ended.

The kernels that this is for need no netem: frames are dropped by nftables in the switch (all of them, or a
share), and a slow link is its token bucket at another rate.
"""
import contextlib
import os
import signal
import subprocess
import time

from benchlib.fault_lab import small_run
from benchlib.torture import VICTIMS
from lablib import net
from lablib.base import Proc
from lablib.cluster import SWITCH
from lablib.config import Config
from lablib.node import STATE_DIR

FAULTS = (*(f'{how}-{victim}' for how in ('kill', 'stop') for victim in VICTIMS),
          'cut', 'cut-to-target', 'cut-to-source', 'cut-off-source', 'cut-off-target', 'slow', 'lossy',
          'full-run-source', 'full-run-target', 'full-state-source', 'full-state-target',
          'power-source', 'power-target')
LOSS = 20              # per cent of the frames, each way
SLOW = {'rate': '30Mbit', 'burst': '128kb', 'queue': '200ms'}
FILLER = 'filler'
APPEARS_S = 20         # a victim that has not appeared by then will not


class Prepared:
  """A command that waits for its input inside the namespace of a process: it acts within a millisecond."""

  def __init__(self, proc, *command):
    self.command = command
    self.child = subprocess.Popen(['nsenter', f'--net=/proc/{proc.pid}/ns/net', *command], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

  def run(self, lines):
    out, _ = self.child.communicate('\n'.join(lines) + '\n', timeout=20)
    if self.child.returncode != 0:
      raise OSError(f'{" ".join(self.command)} failed: {out}')


class Victims:
  """Kills processes, or stops them."""

  def __init__(self, lab, what, pids, over):
    self.lab, self.what, self.pids, self.over = lab, what, pids, over
    self.stopped = []

  def strike(self):
    """False: it never appeared."""
    end = time.monotonic() + APPEARS_S
    while not (found := [Proc(pid) for pid in self.pids()]):
      if self.over() or time.monotonic() > end:
        return False
      time.sleep(0.001)
    sign = signal.SIGKILL if self.what == 'kill' else signal.SIGSTOP
    struck = [proc for proc in found if proc.kill(sign)]
    if self.what == 'stop':
      self.stopped = struck
    return bool(struck)

  def end(self):
    for proc in self.stopped:
      proc.kill(signal.SIGCONT)


class DaemonKill(Victims):

  def __init__(self, lab, node, over):
    self.daemon = lab.daemon(node)
    super().__init__(lab, 'kill', lambda: [self.daemon.proc().pid], over)

  def end(self):
    self.daemon.proc() and self.daemon.proc().wait(10)
    self.daemon.start()
    self.daemon.wait_ready()


class Frames:
  """Drops what goes from one node to another, `loss` per cent of it."""

  def __init__(self, lab, pairs, loss):
    self.lab, self.switch = lab, lab.init(SWITCH)
    some = f'numgen random mod 100 < {loss} ' if loss < 100 else ''
    self.rules = ['table bridge faults {', 'chain links {', 'type filter hook forward priority 0;']
    self.rules += [f'iifname "{a}-{fabric}" oifname "{b}-{fabric}" {some}drop'
                   for a, b in pairs for fabric in lab.state['fabrics']] + ['}', '}']
    self.command = Prepared(self.switch, 'nft', '-f', '-')

  def strike(self):
    self.command.run(self.rules)
    return True

  def end(self):
    Prepared(self.switch, 'nft', '-f', '-').run(['delete table bridge faults'])


class CutOff:
  """A node's cables are out."""

  def __init__(self, lab, node):
    self.lab, self.node, self.switch = lab, node, lab.init(SWITCH)
    self.command = Prepared(self.switch, 'ip', '-batch', '-')

  def strike(self):
    self.command.run([f'link set {self.node}-{fabric} down' for fabric in self.lab.state['fabrics']])
    return True

  def end(self):
    net.set_links(self.switch, self.node, self.lab.state['fabrics'], 'up')


class Slow:
  """The ports of some nodes are slow, towards them."""

  def __init__(self, lab, nodes):
    self.lab, self.nodes, self.switch = lab, nodes, lab.init(SWITCH)
    self.command = Prepared(self.switch, 'tc', '-batch', '-')

  def lines(self, shape_of):
    return [net.shape(f'{node}-{fabric["name"]}', shape_of(fabric))
            for node in self.nodes for fabric in Config(self.lab.state['file']).fabrics]

  def strike(self):
    self.command.run(self.lines(lambda _: SLOW))
    return True

  def end(self):
    Prepared(self.switch, 'tc', '-batch', '-').run(self.lines(lambda fabric: fabric))


class Full:
  """A directory of a node has no room, whatever the size of what is written."""

  def __init__(self, lab, node, directory):
    self.path = f'/proc/{lab.running(node).pid}/root{directory}/{FILLER}'

  def strike(self):
    with open(self.path, 'wb', buffering=0) as file:
      for size in (1 << 20, 4096, 1):
        with contextlib.suppress(OSError):
          while True:
            file.write(bytes(size))
    return True

  def end(self):
    with contextlib.suppress(FileNotFoundError):
      os.unlink(self.path)


class Power:

  def __init__(self, lab, node):
    self.lab, self.node = lab, node

  def strike(self):
    self.lab.kill(self.node)
    return True

  def end(self):
    self.lab.boot(self.node, True)
    small_run(self.lab, self.node)


def arm(lab, fault, source, target, victim_pids, over):
  """`victim_pids(victim, source, target)`; `over()`: there is no migration any more to be struck."""
  how, _, what = fault.partition('-')
  node = source if what.endswith('source') else target
  if fault in ('kill-source-daemon', 'kill-target-daemon'):
    return DaemonKill(lab, source if 'source' in what else target, over)
  if how in ('kill', 'stop'):
    return Victims(lab, how, lambda: victim_pids(what, source, target), over)
  if how == 'cut' and what.startswith('off'):
    return CutOff(lab, node)
  if how in ('cut', 'lossy'):
    pairs = {'to-target': [(source, target)], 'to-source': [(target, source)]}
    both = [(source, target), (target, source)]
    return Frames(lab, pairs.get(what, both), LOSS if how == 'lossy' else 100)
  if how == 'slow':
    return Slow(lab, (source, target))
  if how == 'full':
    return Full(lab, node, '/run' if 'run' in what else STATE_DIR)
  return Power(lab, node)
