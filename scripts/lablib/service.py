"""The daemon and the starter of a node that runs systemd."""
import re
import signal
import subprocess
import time

from lablib import base, cgroup
from lablib.base import LabError
from lablib.daemon import Daemon
from lablib.systemd import GROUP, SLICE, TARGET

BOOT_WITHIN = 30     # seconds


class Service(Daemon):
  """As Daemon, by way of systemctl."""

  def __init__(self, lab, node, init):
    super().__init__(lab, node, init)
    self.group = cgroup.relative(lab.name, node, GROUP)

  def systemctl(self, *words, check=True):
    return self.inside('systemctl', *words, check=check)

  def inside(self, *argv, check=True):
    """The output of a command in the node."""
    done = subprocess.run(
      ['nsenter', '-t', str(self.init.pid), '--all', '--', *argv], text=True, check=False, errors='replace',
      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode != 0:
      raise LabError(f'{self.node}: {" ".join(argv)}: status {done.returncode}: {done.stdout.strip()}')
    return done.stdout.strip()

  def main_process(self, unit):
    """As this side sees it; None when there is none."""
    inner = self.systemctl('show', '-p', 'MainPID', '--value', unit)
    for path in cgroup.trees(f'{self.group}/{SLICE}/{unit}'):
      for pid in cgroup.members(path):
        names = re.search(r'^NSpid:\t(.*)', base.read(f'/proc/{pid}/status', ''), re.M)
        if names and names[1].split()[-1] == inner:
          return base.Proc(pid)
    return None

  def proc(self):
    return self.main_process('lifeboatd.service')

  def starter(self):
    return self.main_process('lifeboat-starter.service')

  def fail(self, what):
    text = self.inside('journalctl', '-n', '30', '--no-pager', '-u', 'lifeboat*', '-o', 'short-monotonic', check=False)
    raise LabError(f'lifeboatd of {self.node}: {what}\nlast lines of its journal:\n{text}')

  def wait_booted(self):
    end = time.monotonic() + BOOT_WITHIN
    while self.systemctl('is-active', TARGET, check=False) != 'active':
      if time.monotonic() > end:
        self.fail(f'systemd has not come up within {BOOT_WITHIN} s')
      time.sleep(0.05)

  def start(self):
    self.wait_booted()
    self.systemctl('start', 'lifeboatd.service', check=False)

  def has_ended(self):
    """Killed and started at once, systemctl start does nothing; systemd sees the end later, and restarts it."""
    return self.systemctl('is-active', 'lifeboatd.service', check=False) in ('inactive', 'failed')

  def stop(self, signo=signal.SIGTERM):
    if self.proc() is None:
      return False
    if signo == signal.SIGTERM:
      self.systemctl('stop', 'lifeboatd.service')
    else:
      self.systemctl('kill', '--kill-whom=main', f'--signal={signal.Signals(signo).name}', 'lifeboatd.service')
    return True
