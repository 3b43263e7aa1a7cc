"""HPL as a Lifeboat job, and what it prints."""
import json
import os
import re

from lablib.hpl import hpl_input

RANKS = 4
MIB = 1 << 20
SIZE = 15000           # N, unless the machine is slow
TRIAL_SIZE = 2000      # by which that is seen
SLOW_SECONDS = 120     # a run of SIZE that would take longer is one of a slow machine


def seconds_for(size, trial_seconds):
  """What a run takes by that of a trial, on a slow machine, roughly: there the ranks mostly wait for each other (on one
  N = 3000, 4100 and 14000 took 22, 43 and 357 s)."""
  return trial_seconds * (size / TRIAL_SIZE) ** 2


def size_for(trial_seconds, enough):
  """SIZE, or, on a slow machine, what takes it `enough` seconds, roughly, if that is less."""
  if seconds_for(SIZE, trial_seconds) <= SLOW_SECONDS:
    return SIZE
  return min(SIZE, max(TRIAL_SIZE, int(TRIAL_SIZE * (enough / trial_seconds) ** 0.5 / 100) * 100))


def share(size):
  """MiB of the matrix in each rank."""
  return 8 * size * size / RANKS / MIB


def memory_needed(size):
  """MiB on this machine: the ranks, and two on their way, which are there three times then."""
  return (RANKS + 2 * 2) * share(size) + 512


def write_job(directory, name, bundle, size):
  """Writes the job description and HPL's input; returns the path of the former."""
  work = os.path.join(directory, name)
  os.makedirs(work)
  with open(os.path.join(work, 'hpl.txt'), 'w', encoding='ascii') as file:
    file.write(hpl_input(size, 1, 2, 2))
  path = os.path.join(directory, f'{name}.yaml')
  with open(path, 'w', encoding='utf-8') as file:
    json.dump({   # which is YAML as well
      'name': name, 'bundle': bundle, 'command': ['/usr/local/bin/xhpl', '/work/hpl.txt'],
      'containers': RANKS, 'memory': f'{int(share(size) * 1.25) + 256}MiB',
      'mounts': [{'source': name, 'target': '/work'}],
      # The lab's nodes share one kernel, on which root may lack the right to give a restored
      # process of another user its limits back.
      'user': {'uid': 0, 'gid': 0}}, file, indent=1)
  return path


class Result:
  """What HPL said about itself."""

  def __init__(self, text):
    timing = re.search(r'^(W\w+ +\d+ +\d+ +\d+ +\d+ +([\d.]+) +(\S+)) *$', text, re.M)
    check = re.search(r'^(\|\|Ax-b\|\|.*= +(\S+) \.+ (\w+)) *$', text, re.M)
    self.lines = [found[1] for found in (timing, check) if found]
    self.seconds = float(timing[2]) if timing else None
    self.gflops = float(timing[3]) if timing else None
    self.residual = check[2] if check else None
    self.passed = bool(check) and check[3] == 'PASSED' and '1 tests completed and passed' in text
