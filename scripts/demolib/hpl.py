"""HPL as a Lifeboat job, and what it prints."""
import json
import os
import re

RANKS = 4
MIB = 1 << 20

INPUT = '''HPLinpack benchmark input file
Lifeboat
HPL.out      output file name (if any)
6            device out (6=stdout,7=stderr,file)
1            # of problems sizes (N)
{size}       Ns
1            # of NBs
64           NBs
0            PMAP process mapping (0=Row-,1=Column-major)
1            # of process grids (P x Q)
2            Ps
2            Qs
16.0         threshold
1            # of panel fact
2            PFACTs (0=left, 1=Crout, 2=Right)
1            # of recursive stopping criterium
4            NBMINs (>= 1)
1            # of panels in recursion
2            NDIVs
1            # of recursive panel fact.
1            RFACTs (0=left, 1=Crout, 2=Right)
1            # of broadcast
1            BCASTs (0=1rg,1=1rM,2=2rg,3=2rM,4=Lng,5=LnM)
1            # of lookahead depth
1            DEPTHs (>=0)
2            SWAP (0=bin-exch,1=long,2=mix)
64           swapping threshold
0            L1 in (0=transposed,1=no-transposed) form
0            U  in (0=transposed,1=no-transposed) form
1            Equilibration (0=no,1=yes)
8            memory alignment in double (> 0)
'''


SIZE = 14000           # N, unless the machine is slow
TRIAL_SIZE = 3000      # by which that is seen
SLOW_SECONDS = 120     # a run of SIZE that would take longer is one of a slow machine
SHORT_SECONDS = 60     # what it gets instead, roughly


def size_for(gflops):
  """N for a machine that does so many: SIZE, or what takes a slow one a minute."""
  if operations(SIZE) / gflops <= SLOW_SECONDS * 1e9:
    return SIZE
  return max(TRIAL_SIZE, int((1.5e9 * SHORT_SECONDS * gflops) ** (1 / 3) / 100) * 100)


def operations(size):
  return 2 / 3 * size ** 3


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
    file.write(INPUT.format(size=size))
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
