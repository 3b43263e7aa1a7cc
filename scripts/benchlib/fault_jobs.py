"""The jobs of `scripts/soak faults`: HPL on two ranks each, again and again until it is told to stop."""
import contextlib
import os

from benchlib.harness import Failure, Job
from lablib.hpl import hpl_input, hpl_residuals

ALIVE_S = 60                # until a job must have said something new
ENDS_S = 60                 # until a job must have ended of which a node without power had a container


class HplJobs:

  def __init__(self, args):
    self.size, self.number = args.size, args.jobs
    self.cluster = None
    self.now = {}           # name: Job
    self.digits = None
    self.ended, self.residuals = 0, 0

  def path(self, name):
    return os.path.join(self.cluster.work, name)

  def start(self):
    """Those that there are not."""
    with open(self.path('HPL.dat'), 'w', encoding='ascii') as file:
      file.write(hpl_input(self.size, 1, 1, 2))
    for name in sorted({f'hpl{number}' for number in range(self.number)} - self.now.keys()):
      with contextlib.suppress(FileNotFoundError):
        os.remove(self.path(f'stop-{name}'))
      # Some files for the writable layer, too.
      command = (f'dd if=/dev/urandom of=/var/data bs=64k count=32 2>/dev/null; '
                 f'exec /usr/local/bin/xhpl --until /work/stop-{name} /work/HPL.dat')
      self.now[name] = Job(self.cluster, name, {
        'command': ['/bin/sh', '-c', command], 'containers': 2, 'memory': '256MiB', 'root': 'overlay',
        'writable': '64MiB', 'mounts': [{'source': self.cluster.work, 'target': '/work'}],
        'user': {'uid': 0, 'gid': 0}})
    for job in self.now.values():
      job.wait_running()
      if not job.wait_until(lambda job=job: hpl_residuals(job.text()), ALIVE_S, 'residual'):
        raise Failure(f'{tell_end(job)}, before its first residual')
    for container, node in self.cluster.where().items():
      for pid in self.cluster.pids_of(container, node):
        with contextlib.suppress(ProcessLookupError):  # there are few processors, and the daemons go first
          os.setpriority(os.PRIO_PROCESS, pid, 5)

  def check(self, job):
    """Of one that has ended, however: its residuals."""
    found = hpl_residuals(job.text())
    self.digits = self.digits or (found[0][0] if found else None)
    wrong = [item for item in found if item != (self.digits, 'PASSED')]
    if wrong:
      raise Failure(f'job {job.name}: residuals {wrong[:5]}, expected {self.digits} PASSED')
    self.residuals += len(found)

  def stop(self):
    """All of them, well."""
    for name in self.now:
      with open(self.path(f'stop-{name}'), 'w', encoding='ascii'):
        pass
    for name, job in list(self.now.items()):
      code = job.wait(120)
      self.check(job)
      if code != 0:
        raise Failure(tell_end(job))
      self.ended += 1
      del self.now[name]

  def kill(self):
    for job in self.now.values():
      job.kill()
    self.now.clear()

  def alive(self, name, heard):
    """It says more than that many lines."""
    job = self.now[name]
    if not job.wait_until(lambda: len(job.lines) > heard, ALIVE_S, 'output'):
      raise Failure(tell_end(job))

  def wait_lost(self, name):
    """A node without power had a container of it: it ends, and says so."""
    job = self.now[name]
    job.wait(ENDS_S)
    if not stated(job):
      raise Failure(f'{tell_end(job)}, and does not say that it has lost a container')


def stated(job):
  """Why a job has lost a container, in its own words."""
  job.exit_code()
  return [line for line in job.lines if line.startswith('lifeboat: container')]


def tell_end(job):
  return f'job {job.name} has ended with status {job.exit_code()}: ' + ' / '.join(job.lines[-6:])
