"""HPL for the benchmarks: a run, its time by its own clock, its residual."""
import os
import re
import shutil
import time

from benchlib import harness
from benchlib.harness import Failure
from lablib.hpl import hpl_input, hpl_residuals

TIME = re.compile(r'^W[RC]\S+\s+\d+\s+\d+\s+\d+\s+\d+\s+([\d.]+)\s+\S+', re.MULTILINE)


class Hpl:
  """One run of HPL on rows x columns containers with one rank each: `problems` times the same system. `name`: of the
  job, where there are several at once."""

  def __init__(self, cluster, size, rows, columns, problems=1, name='hpl'):
    self.problems = problems
    self.work = os.path.join(cluster.work, name)
    os.makedirs(self.work)
    with open(os.path.join(self.work, 'HPL.dat'), 'w', encoding='ascii') as file:
      file.write(hpl_input(size, problems, rows, columns))
    megabytes = size * size * 8 // (rows * columns) // harness.MB + 320
    self.job = harness.Job(cluster, name, {
      'command': ['/usr/local/bin/xhpl', '/work/HPL.dat'], 'containers': rows * columns,
      'memory': f'{megabytes}MiB', 'nodes': cluster.nodes[:2],
      'mounts': [{'source': self.work, 'target': '/work'}], 'user': {'uid': 0, 'gid': 0}})
    self.job.wait_running()
    self.began = time.monotonic()

  def finish(self, seconds=1800):
    """Waits for its end; {time_s, residual}: of all problems together, of each the same."""
    code = self.job.wait(seconds)
    text = self.job.text()
    times, residuals = TIME.findall(text), hpl_residuals(text)
    if code != 0 or len(times) != self.problems or len(set(residuals)) != 1 or residuals[0][1] != 'PASSED':
      raise Failure(f'HPL ended with status {code}:\n{text[-1500:]}')
    return {'time_s': sum(map(float, times)), 'residual': residuals[0][0]}

  def remove(self):
    self.job.end()
    shutil.rmtree(self.work, ignore_errors=True)
