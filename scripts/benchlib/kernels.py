"""What `scripts/bench convergence` moves: HPL, and writers that provoke the paper's three patterns.

Each kernel runs one migration and returns {report, slowdown_percent}. How much slower a writer was is
seen in its own rate, before and during the migration; of HPL, in its time against a run that was
left alone.
"""
import math
import time

from benchlib import hpl, systems
from benchlib.harness import Failure

BEFORE_S = 4   # of a writer's life in which its own speed is measured
# Name -> (hot percent, pages per second as a multiple of what the wire carries; None: nothing).
# One that writes all its memory faster than it can be sent never gets cleaner (a); one whose writes
# of an interval are sent within it has been sent but for these (b); a small part written all over
# again in each interval is sent again and again (c).
WRITERS = {'sweep (a)': (100, 1.4), 'slow (b)': (40, 0.55), 'hot (c)': (12, 1.0), 'idle': (0, 0)}


class Writer:
  def __init__(self, name, size):
    self.name, self.size = name, size

  def run(self, cluster, mode, fabric):
    hot, share = WRITERS[self.name]
    dirty = max(1, int(share * cluster.rates[fabric] / 8 / 4096))
    report, _, before, during = systems.move_writer(
      cluster, mode, {'mb': self.size, 'hot': hot, 'dirty': dirty}, fabric, BEFORE_S)
    slower = 100 * (1 - during / before) if before and during is not None else None
    return {'report': report, 'slowdown_percent': slower}


class Hpl:
  """lasting_s: how long it is to run on beyond its migration's start, at least."""

  def __init__(self, size, start_s, lasting_s):
    self.name, self.size, self.start_s, self.lasting_s = 'hpl', size, start_s, lasting_s
    self.alone_s, self.problems = None, 1

  def run(self, cluster, mode, fabric):
    if self.alone_s is None:
      one_s = self.once(cluster, lambda job: None)[0]
      self.problems = math.ceil((self.start_s + self.lasting_s) / one_s)
      self.alone_s = one_s * self.problems
    def migrate(job):
      time.sleep(self.start_s)
      report = cluster.ask('migrate', job.containers[0], '--to', cluster.nodes[-1], '--fabric', fabric,
                           '--mode', mode, timeout=900)
      if report.get('outcome') != 'committed':
        raise Failure(f'migration of HPL: {report} (a run alone takes {self.alone_s:.0f} s)')
      return report
    seconds, report = self.once(cluster, migrate)
    return {'report': report, 'slowdown_percent': 100 * (seconds / self.alone_s - 1)}

  def once(self, cluster, meanwhile):
    run = hpl.Hpl(cluster, self.size, 1, 2, self.problems)
    try:
      out = meanwhile(run.job)
      return run.finish()['time_s'], out
    finally:
      run.remove()
