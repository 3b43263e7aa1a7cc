#!/usr/bin/python3
"""OPERATING.md, by the letter: every command of it, in its order, on machines that each boot a Debian of their own.

The packages are what scripts/package makes of the build. A command is given where its prompt says; it must succeed,
and say what follows it there (`...`: anything). Commands that fetch packages have this machine's network. Each
chapter is one case; what was said and how long it took is in build/guide/transcript.txt.

  tests/lab/guide_test.py [--keep] [--from N]

  --keep     leave the lab `guide` up
  --from N   begin with chapter N, or N.M: its command M, in the lab that is there

Exit status: 0 passed, 1 failed, 77 skipped. Needs root, a Debian mirror, and what scripts/setup builds (HPL).
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import package_test
from package_test import PACKAGES, ROOT, must, run

from lablib import base
from lablib.cluster import Lab
from lablib.hpl import hpl_input

GUIDE = os.path.join(ROOT, 'OPERATING.md')
OUT = os.path.join(ROOT, 'build/guide')
ARCHIVES = package_test.ARCHIVES
MACHINE = os.path.join(ROOT, 'build/machine-root')
# What a site's machines have before they are installed by the guide.
INSTALLED = ('systemd-sysv', 'dbus', 'udev', 'iproute2', 'iputils-ping', 'procps', 'openssh-server', 'ca-certificates',
             'less', 'netbase')
CACHE = os.environ.get('LIFEBOAT_CACHE') or os.path.join(
  os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'lifeboat')
NODES = ('head', 'n1', 'n2', 'n3')
MACHINES = (*NODES, 'admin')
PROMPT = re.compile(r'((?:admin|head|nodes|n\d)(?:,n\d)*)# (.*)')
FETCHES = re.compile(r'\b(apt-get|debootstrap)\b')
COMMAND_S = 400
LAB_YAML = '''
fabrics:
  - {name: 1g, subnet: 10.1.0.0/16, rate: 1Gbit, burst: 512kb}
  - {name: 10g, subnet: 10.2.0.0/16, rate: 10Gbit, burst: 4mb}
default_fabric: 10g
nodes: [{name: head, role: head}, {name: n1}, {name: n2}, {name: n3}, {name: admin, role: head}]
'''


class Wrong(Exception):
  pass


class Step:
  """A command of the guide, and what it is to say."""

  def __init__(self, where, command):
    self.where, self.command, self.expected = where, command, []

  def machines(self):
    return NODES if self.where == 'nodes' else tuple(self.where.split(','))

  def fits(self, said):
    if not self.expected:
      return True
    parts = [r'(?:.*\n)*?' if line == '...' else re.escape(line).replace(re.escape('...'), '.*') + r' *\n'
             for line in self.expected]
    return re.fullmatch(''.join(parts), said if said.endswith('\n') or not said else said + '\n') is not None


def chapters(text):
  """[(title, [Step])]"""
  found, step, here = [], None, None
  for line in text.splitlines():
    if line.startswith('## '):
      found.append((line[3:], []))
    bare = line.strip()
    if not re.match(' {4}', line):
      step = here = None
    elif here:
      step.command += '\n' + bare if not here[1] else '\n' + line[here[1]:]
      if bare == here[0]:
        here = None
    elif match := PROMPT.fullmatch(bare):
      step = Step(*match.groups())
      found[-1][1].append(step)
      if heredoc := re.search(r"<<'?(\w+)'?$", step.command):
        here = (heredoc[1], len(line) - len(line.lstrip()))
    elif step:
      step.expected.append(bare)
  return [(title, steps) for title, steps in found if steps]


class Site:
  """The machines, and what was said on them."""

  def __init__(self):
    os.makedirs(OUT, exist_ok=True)
    self.began = time.monotonic()
    self.transcript = open(os.path.join(OUT, 'transcript.txt'), 'w', encoding='utf-8', buffering=1)
    self.pool = concurrent.futures.ThreadPoolExecutor(len(MACHINES))
    self.lab = Lab('guide')

  def write(self, text):
    self.transcript.write(text)
    self.transcript.flush()

  def up(self):
    package_test.make_clean_root(MACHINE, *INSTALLED)
    path = os.path.join(OUT, 'lab.yaml')
    with open(path, 'w', encoding='utf-8') as file:
      file.write(LAB_YAML)
    must(f'{ROOT}/scripts/lab', '--name', 'guide', 'up', '--replace', '--file', path, '--root', MACHINE)
    self.lab.load()
    self.fill_srv()
    must('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', os.path.join(self.root('admin'), 'root/.ssh/id_ed25519'))
    for machine in MACHINES:
      self.prepare(machine)

  def root(self, machine):
    root = f'/proc/{self.lab.running(machine).pid}/root/'
    os.makedirs(root + 'root/.ssh', mode=0o700, exist_ok=True)
    return root

  def fill_srv(self):
    """What the site has: packages and an application."""
    srv = os.path.join(self.lab.directory, 'srv')
    for name in ('packages', 'hpl', 'jobs', 'images'):
      os.makedirs(os.path.join(srv, name), exist_ok=True)
    for path in glob.glob(f'{PACKAGES}/*.deb'):
      shutil.copy(path, f'{srv}/packages')
    shutil.copy(f'{CACHE}/hpl/xhpl', f'{srv}/hpl')
    with open(f'{srv}/hpl/HPL.dat', 'w', encoding='ascii') as file:
      file.write(hpl_input(16000, 2, 2, 2, block=192))   # long enough for what the guide does meanwhile

  def prepare(self, machine):
    """Logins by key, and the mirror."""
    root = self.root(machine)
    shutil.copy(self.root('admin') + 'root/.ssh/id_ed25519.pub', root + 'root/.ssh/authorized_keys')
    with open(root + 'root/.ssh/config', 'w', encoding='ascii') as file:
      file.write('StrictHostKeyChecking accept-new\nLogLevel ERROR\n')
    shutil.copy('/etc/resolv.conf', root + 'etc/resolv.conf')
    for path in glob.glob(f'{ARCHIVES}/*.deb'):
      shutil.copy(path, root + 'var/cache/apt/archives')
    # This machine's kernel shows the old hierarchies in /proc/self/cgroup, which slurmd takes for a mixture.
    os.makedirs(root + 'etc/slurm', exist_ok=True)
    with open(root + 'etc/slurm/cgroup.conf', 'w', encoding='ascii') as file:
      file.write('CgroupPlugin=cgroup/v1\n')

  def down(self):
    for machine in MACHINES:   # so that the next time has them
      for path in glob.glob(self.root(machine) + 'var/cache/apt/archives/*.deb') if self.lab.init(machine) else ():
        if not os.path.exists(os.path.join(ARCHIVES, os.path.basename(path))):
          shutil.copy(path, ARCHIVES)
    must(f'{ROOT}/scripts/lab', '--name', 'guide', 'down')

  def give(self, machine, command):
    """(exit status, what was said)"""
    if power := re.fullmatch(r'power-(off|on) (\w+)', command):
      return run(f'{ROOT}/scripts/lab', '--name', 'guide', 'kill' if power[1] == 'off' else 'boot', power[2])
    space = ['-m', '-u', '-i', '-p'] if FETCHES.search(command) else ['-a']
    environment = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', 'LC_ALL': 'C.UTF-8', 'USER': 'root',
                   'DEBIAN_FRONTEND': 'noninteractive', 'MIRROR': package_test.mirror()}
    return run('nsenter', '-t', str(self.lab.load().running(machine).pid), *space, '--', 'bash', '-c', 'cd\n' + command,
               seconds=COMMAND_S, env=environment)

  def take(self, step):
    begun = time.monotonic()
    answers = list(self.pool.map(lambda machine: self.give(machine, step.command), step.machines()))
    took = time.monotonic() - begun
    for machine, (code, said) in zip(step.machines(), answers):
      self.write(f'[{begun - self.began:6.1f} s, took {took:.1f} s] {machine}# {step.command}\n{said}')
      if code != 0:
        raise Wrong(f'{machine}# {step.command}\nexit status {code}:\n{said}')
      if not step.fits(said):
        raise Wrong(f'{machine}# {step.command}\nsays:\n{said}but OPERATING.md has:\n' + '\n'.join(step.expected))


def follow(site, text, first):
  """[(chapter, error or None)]"""
  results = []
  for title, steps in chapters(text):
    number = int(title.partition('.')[0])
    if number < first[0]:
      continue
    steps = steps[first[1] - 1:] if number == first[0] else steps
    begun = time.monotonic()
    site.write(f'\n## {title}\n\n')
    try:
      for step in steps:
        site.take(step)
      results.append((title, None))
      print(f'passed  {title}: {len(steps)} commands, {time.monotonic() - begun:.0f} s', flush=True)
    except (Wrong, subprocess.TimeoutExpired) as error:
      print(f'FAILED  {title}: {error}', flush=True)
      results.append((title, error))
      break   # what follows is built on it
  return results


def main():
  if os.geteuid() != 0 or not os.path.exists(f'{CACHE}/hpl/xhpl'):
    print('SKIP: needs root, and scripts/setup')
    return 77
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--keep', action='store_true')
  parser.add_argument('--from', dest='first', default='0', metavar='N[.M]')
  arguments = parser.parse_args()
  os.umask(0o022)
  os.makedirs(os.path.join(ARCHIVES, 'partial'), exist_ok=True)
  site = Site()
  chapter, _, command = arguments.first.partition('.')
  if chapter == '0':
    must(f'{ROOT}/scripts/package', '--build', os.path.dirname(package_test.BUILD), seconds=1800)
    site.up()
  try:
    results = follow(site, base.read(GUIDE), (int(chapter), int(command or 1)))
  finally:
    if not arguments.keep:
      site.down()
  failed = sum(error is not None for _, error in results)
  print(f'{len(results) - failed} passed, {failed} failed, 0 skipped')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
