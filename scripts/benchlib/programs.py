"""The programs of mpi/bench, for containers that see them in /work: the image need not have them."""
import glob
import os
import subprocess

from benchlib.harness import ROOT, Failure

DIRECTORY = os.path.join(ROOT, 'mpi/bench')
# What each has beside NAME.c and rank.c.
PARTS = {'memory': ('exchange.c',), 'pingpong': (), 'transpose': (), 'web': ()}


def build(environment, name):
  """Its path in the cache; built if a source is newer."""
  directory = os.path.join(environment['LIFEBOAT_CACHE'], 'bench')
  program = os.path.join(directory, name)
  sources = [os.path.join(DIRECTORY, part) for part in (f'{name}.c', 'rank.c', *PARTS[name])]
  newest = max(os.path.getmtime(path) for path in [*sources, *glob.glob(f'{DIRECTORY}/*.h')])
  if os.path.exists(program) and os.path.getmtime(program) >= newest:
    return program
  os.makedirs(directory, exist_ok=True)
  command = ['mpicc.mpich', '-std=c11', '-O2', '-Wall', '-Wextra', '-o', program + '.new', *sources]
  done = subprocess.run(command, text=True, capture_output=True, check=False)
  if done.returncode != 0:
    raise Failure(f'mpi/bench/{name}.c does not compile:\n{done.stderr}')
  os.rename(program + '.new', program)
  return program
