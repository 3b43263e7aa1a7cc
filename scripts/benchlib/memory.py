"""mpi/bench/memory.c for the benchmarks: called and understood."""
import os
import re
import time

from benchlib.harness import Hang
from lablib.base import read

PEER_MB = 16      # what the rank that stays holds
SECONDS = 7200    # the longest it runs; it is told to stop earlier
GAP = re.compile(r'gap rank (\d+) ([\d.]+) ms at ([\d.]+) pause ([\d.]+) ms at ([\d.]+) pages (\d+) by ([\d.]+)')


def command(load, interface=None, rank=None):
  """What runs in a container. `load`: {mb, hot, dirty, huge, shared}; its peers hold PEER_MB each, or what
  `amounts` says. With an interface it is one of a pair that talks TCP, else an MPI rank. The
  launcher says which rank it is, or `rank` does. Its output is in /work/rankN."""
  words = ['/work/memory', '--hot', str(load['hot']), '--dirty', str(load['dirty'])]
  if load.get('huge'):
    words.append('--huge')
  if load.get('shared'):
    words += ['--shared', load['shared']]
  if interface is not None:
    words += ['--tcp', '/work', '--interface', interface]
  if rank is not None:
    words += ['--rank', str(rank)]
  amounts = load.get('amounts') or f'{load["mb"]},{PEER_MB}'
  return [*words, '--log', '/work/rank', amounts, str(SECONDS), '/work/stop']


def output(directory, ranks=2):
  """What the ranks that have `directory` as their /work have printed so far."""
  return '\n'.join(read(os.path.join(directory, f'rank{rank}'), '') for rank in range(ranks))


def gaps(text):
  """[{rank, gap_ms, at, pause_ms, pause_at, pages, by}] of the program's output."""
  return [{'rank': int(rank), 'gap_ms': float(gap), 'at': float(at), 'pause_ms': float(pause),
           'pause_at': float(pause_at), 'pages': int(pages), 'by': float(by)}
          for rank, gap, at, pause, pause_at, pages, by in GAP.findall(text)]


def wait_alive(text, since, ranks=(0, 1), seconds=60):
  """Until each rank has reported a message later than `since`: a silence may outlast the migration,
  and what has not ended is not known. `text` returns the output so far."""
  wait_for(text, 'at', since, ranks, seconds)


def wait_counted_anew(text, ranks=(0, 1), seconds=60):
  """Until each rank has made a report: the longest pause in its next one is none of before (of memory that was
  warmed, for one, which takes both processors)."""
  wait_for(text, 'by', time.time(), ranks, seconds)


def wait_for(text, time_of, since, ranks, seconds):
  end = time.monotonic() + seconds
  while True:
    heard = {g['rank'] for g in gaps(text()) if g[time_of] > since}
    if heard.issuperset(ranks):
      return
    if time.monotonic() > end:
      raise Hang(f'no message of rank {sorted(set(ranks) - heard)} for {seconds} s')
    time.sleep(0.1)


def silence(text, began, until, movers=(0,), peers=(1,)):
  """What moved ranks and their peers noticed in a span of time (of the wall clock): the longest
  pause in which a mover did not run and when it ended, and the longest times without a message of both."""
  lines = [g for g in gaps(text) if began <= g['at'] <= until]
  def longest(key, ranks):
    return max((g[key] for g in lines if g['rank'] in ranks), default=0.0)
  pause = max((g for g in lines if g['rank'] in movers), key=lambda g: g['pause_ms'], default={})
  return {'paused_ms': pause.get('pause_ms', 0.0), 'pause_ended_at': pause.get('pause_at'),
          'gap_ms': longest('gap_ms', movers), 'peer_gap_ms': longest('gap_ms', peers)}


def pages_per_s(text, began, until, rank=0):
  """How fast a rank rewrote its memory in a span of time, between its reports interpolated; None if
  the reports do not cover it."""
  points = [(g['by'], g['pages']) for g in gaps(text) if g['rank'] == rank]
  def written(at):
    for (t0, p0), (t1, p1) in zip(points, points[1:]):
      if t0 <= at <= t1:
        return p0 + (p1 - p0) * (at - t0) / (t1 - t0)
    return None
  first, last = written(began), written(until)
  return None if first is None or last is None or until <= began else (last - first) / (until - began)
