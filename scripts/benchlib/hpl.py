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
  """One run of HPL on `ranks` containers with one rank each (ranks: rows x columns)."""

  def __init__(self, cluster, size, rows, columns):
    self.work = os.path.join(cluster.work, 'hpl')
    os.makedirs(self.work)
    with open(os.path.join(self.work, 'HPL.dat'), 'w', encoding='ascii') as file:
      file.write(hpl_input(size, 1, rows, columns))
    megabytes = size * size * 8 // (rows * columns) // harness.MB + 320
    self.job = harness.Job(cluster, 'hpl', {
      'command': ['/usr/local/bin/xhpl', '/work/HPL.dat'], 'containers': rows * columns,
      'memory': f'{megabytes}MiB', 'nodes': cluster.nodes[:2],
      'mounts': [{'source': self.work, 'target': '/work'}], 'user': {'uid': 0, 'gid': 0}})
    self.job.wait_running()
    self.began = time.monotonic()

  def finish(self, seconds=1800):
    """Waits for its end; {time_s, residual}."""
    code = self.job.wait(seconds)
    text = self.job.text()
    found, residuals = TIME.search(text), hpl_residuals(text)
    if code != 0 or found is None or not residuals or residuals[0][1] != 'PASSED':
      raise Failure(f'HPL ended with status {code}:\n{text[-1500:]}')
    return {'time_s': float(found.group(1)), 'residual': residuals[0][0]}

  def remove(self):
    self.job.end()
    shutil.rmtree(self.work, ignore_errors=True)
