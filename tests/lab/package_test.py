#!/usr/bin/python3
"""The Debian packages, in a clean Debian root and with jobs: build, install, upgrade, remove, purge.

The root is made by debootstrap, once, in build/clean-root, and covered by an overlay for each run. The installed
programs run a lab; while its containers run the package is upgraded beneath them and may not be removed.

  tests/lab/package_test.py     as tests/lab/operator_test.py, which explains the rest; needs a Debian mirror
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test as operator
from operator_test import BUILD, ROOT

from lablib import base

operator.COMPUTE = ('n1', 'n2', 'n3')
operator.LAB_YAML = operator.FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB}
  - {name: n2, memory: 8GiB}
  - {name: n3, memory: 8GiB}
lifeboat:
  health: {probation: 0s}
'''
CLEAN = os.path.join(ROOT, 'build/clean-root')
ARCHIVES = os.path.join(ROOT, 'build/apt-archives')   # what apt has fetched before
PACKAGES = os.path.join(ROOT, 'build/packages')
NAMES = ('lifeboat', 'lifeboat-mpi', 'lifeboat-criu')
PAGES = ('lifeboat.1', 'lifeboat-predict.1', 'lifeboat.yaml.5', 'lifeboatd.8', 'lifeboat-pager.8', 'lifeboat-starter.8',
         'lifeboat-inject.8')
# What apt, dpkg and man keep for themselves.
THEIRS = re.compile(r'/(proc|dev|sys|run|tmp)/|/var/(lib/(apt|dpkg)|cache|log)/|/etc/ld\.so\.cache')


def run(*command, seconds=600, **more):
  """(exit status, output)"""
  done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                        stdin=subprocess.DEVNULL, timeout=seconds, **more)
  return done.returncode, done.stdout


def must(*command, **more):
  code, out = run(*command, **more)
  if code != 0:
    raise AssertionError(f'{" ".join(command)}: exit status {code}:\n{out[-3000:]}')
  return out


def mirror():
  """Debian's mirror, as this machine knows it."""
  out = must('apt-get', 'indextargets', '--format', '$(REPO_URI) $(ORIGIN) $(CODENAME) $(COMPONENT)')
  found = [line.split()[0] for line in out.splitlines() if line.endswith('Debian bookworm main')]
  assert found, f'apt knows no source of Debian bookworm:\n{out}'
  return found[0]


def make_clean_root(path=CLEAN, *more):
  """A small Debian with these packages, unless it is there."""
  if os.path.exists(path):
    return
  shutil.rmtree(path + '.new', ignore_errors=True)
  include = ','.join(('man-db', 'bash-completion', *more))
  must('debootstrap', '--variant=minbase', f'--include={include}', 'bookworm', path + '.new', mirror())
  os.rename(path + '.new', path)


class DebianRoot:
  """The clean root, covered by an overlay, in the mount namespace of this process: the mounts end with it."""

  def __init__(self):
    self.work = tempfile.mkdtemp(prefix='package-test-', dir=os.path.join(ROOT, 'build'))
    self.path = os.path.join(self.work, 'root')

  def mount(self):
    make_clean_root()
    os.makedirs(os.path.join(ARCHIVES, 'partial'), exist_ok=True)
    upper, aside = os.path.join(self.work, 'upper'), os.path.join(self.work, 'aside')
    for path in (self.path, upper, aside):
      os.mkdir(path)
    base.mount('overlay', self.path, 'overlay', 0, f'lowerdir={CLEAN},upperdir={upper},workdir={aside}')
    base.mount('proc', self / 'proc', 'proc')
    base.mount('/dev', self / 'dev', None, base.MS_BIND | base.MS_REC)
    base.mount('tmpfs', self / 'run', 'tmpfs')
    base.mount(ARCHIVES, self / 'var/cache/apt/archives', None, base.MS_BIND)
    base.mount(os.path.realpath('/etc/resolv.conf'), self / 'etc/resolv.conf', None, base.MS_BIND)

  def __truediv__(self, path):
    return os.path.join(self.path, path)

  def command(self, *command):
    return ['chroot', self.path, 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8',
            'DEBIAN_FRONTEND=noninteractive', *command]

  def run(self, *command):
    return run(*self.command(*command))

  def must(self, *command):
    return must(*self.command(*command))

  def apt(self, *words):
    return self.must('apt-get', '-y', '-q', '--no-install-recommends', *words)

  def apt_in(self, lab, node, *words):
    """The same with the cgroups and the /run of a node of a lab: what the package's scripts look at."""
    script = f'mount -n --rbind /sys {self.path}/sys && mount -n --rbind /run {self.path}/run && exec "$@"'
    return lab.run('exec', node, 'unshare', '--mount', 'sh', '-c', script, 'sh',
                   *self.command('apt-get', '-y', '-q', *words), seconds=120)

  def files(self):
    found = set()
    for directory, names, files in os.walk(self.path):
      inside = directory[len(self.path):]
      names[:] = [name for name in names if not THEIRS.match(f'{inside}/{name}/')]
      found |= {f'{inside}/{name}' for name in names + files if not THEIRS.match(f'{inside}/{name}')}
    return found

  def status(self, package):
    code, out = self.run('dpkg-query', '-W', '-f', '${db:Status-Status}', package)
    return out if code == 0 and out != 'not-installed' else ''

  def close(self):
    # The innermost first; what is mounted there must not be deleted with it.
    for point in [p for p, *_ in base.mounts() if p.startswith(self.path)][::-1]:
      base.unmount(point, base.MNT_DETACH)
    shutil.rmtree(self.work)


def dependencies(packages):
  """Names of the packages that they need, themselves and the alternatives to them left out."""
  found = set()
  for path in packages:
    for entry in must('dpkg-deb', '-f', path, 'Depends').split(','):
      name = re.match(r'[a-z0-9.+-]+', entry.strip())[0]
      if name not in NAMES:
        found.add(name)
  return sorted(found)


def newer(path, directory):
  """The package again, as the next version."""
  tree, out = os.path.join(directory, 'tree'), os.path.join(directory, 'newer.deb')
  must('dpkg-deb', '-R', path, tree)
  control = os.path.join(tree, 'DEBIAN/control')
  text = base.read(control)
  with open(control, 'w', encoding='utf-8') as file:
    file.write(re.sub(r'^(Version: .*)$', r'\1+next', text, flags=re.M))
  must('dpkg-deb', '-Zgzip', '-z1', '--root-owner-group', '-b', tree, out)
  shutil.rmtree(tree)
  return out


class Package(operator.Group):

  def setUp(self):   # the lab is made of what is installed
    self.root = DebianRoot()
    self.addCleanup(self.root.close)
    self.root.mount()

  def test_package(self):
    packages = self.build()
    self.root.must('apt-get', '-q', 'update')
    self.root.apt('install', *dependencies(packages))
    before = self.root.files()
    for path in packages:
      shutil.copy(path, self.root / 'var/cache')
    self.install([f'/var/cache/{os.path.basename(path)}' for path in packages])
    self.look()
    self.upgrade(next(path for path in packages if '/lifeboat_' in path))
    self.remove(before)

  def build(self):
    must(f'{ROOT}/scripts/package', '--build', os.path.dirname(BUILD), seconds=1800)
    packages = sorted(glob.glob(f'{PACKAGES}/*.deb'))
    self.assertEqual(len(packages), 3, packages)
    with self.subTest('lintian finds no error'):
      code, out = run('lintian', '--fail-on', 'error', *packages)
      self.assertEqual(code, 0, out)
    return packages

  def install(self, packages):
    self.root.apt('install', *packages)
    with self.subTest('install'):
      self.assertEqual({name: self.root.status(name) for name in NAMES}, dict.fromkeys(NAMES, 'installed'))
      self.assertEqual(self.root.must('dpkg', '--verify', *NAMES), '')
    with self.subTest('nothing is started or enabled by itself'):
      for unit in glob.glob(f'{ROOT}/configs/systemd/*.service'):
        name = os.path.basename(unit)
        self.assertTrue(os.path.exists(self.root / f'lib/systemd/system/{name}'), name)
        self.assertEqual(glob.glob(self.root / f'etc/systemd/system/*/{name}'), [])

  def look(self):
    with self.subTest('the configuration that is there is right, but for its nodes'):
      code, out = self.root.run('lifeboatd', '--check-config')
      self.assertEqual(code, 2, out)
      self.assertIn('is not listed', out)
      self.assertEqual(self.root.must('lifeboatd', '--check-config', '--node', 'n1'),
                       '/etc/lifeboat/lifeboat.yaml: ok\n')
    with self.subTest('the commands'):
      self.assertIn('Subcommands', self.root.must('lifeboat', '--help'))
      self.assertEqual(self.root.run('lifeboat', 'ps')[0], 3)
      self.assertIn('evaluate', self.root.run('lifeboat-predict')[1])
      self.assertIn('Version: ', self.root.must('/usr/libexec/lifeboat/criu', '--version'))
      for program in ('mpiexec', 'hydra_pmi_proxy', 'crun'):
        self.root.must('sh', '-c', f'command -v {program}')
    for page in PAGES:
      name, section = page.rsplit('.', 1)
      with self.subTest('man', page=page):
        self.assertIn(f'{name.upper()}({section})', self.root.must('man', section, name))
    with self.subTest('completion is found by its name'):
      for program in ('lifeboat', 'lifeboatd', 'lifeboat-predict'):
        self.assertIn('-F _lifeboat', self.root.must('bash', '-c', f'''
          source /usr/share/bash-completion/bash_completion
          _completion_loader {program} || true; complete -p {program}'''))

  def upgrade(self, package):
    """The installed programs run a lab; the next version comes while its containers run."""
    programs = os.path.join(self.root.work, 'bin')
    os.mkdir(programs)
    for program in ('usr/sbin/lifeboatd', 'usr/libexec/lifeboat/lifeboat-starter', 'usr/bin/lifeboat'):
      os.symlink(self.root / program, os.path.join(programs, os.path.basename(program)))
    operator.BUILD = programs
    self.lab.up()
    config = self.root / 'etc/lifeboat/lifeboat.yaml'
    with open(config, 'a', encoding='utf-8') as file:
      file.write('\n# the site was here\n')
    shutil.move(newer(package, self.root.work), self.root / 'var/cache/newer.deb')
    with self.job('pack') as job:
      with self.subTest('the installed programs move a container'):
        self.moved('pack-0', 'n2')
      with self.subTest('not removed while containers run'):
        code, out, error = self.root.apt_in(self.lab, 'n2', 'remove', 'lifeboat')
        self.assertNotEqual(code, 0, out)
        self.assertIn('containers run on this node: pack-', out + error)
        self.assertEqual(self.root.status('lifeboat'), 'installed')
      with self.subTest('upgrade'):
        code, out, error = self.root.apt_in(self.lab, 'n2', 'install', '/var/cache/newer.deb')
        self.assertEqual(code, 0, out + error)
        self.assertTrue(self.root.must('dpkg-query', '-W', '-f', '${Version}', 'lifeboat').endswith('+next'))
        self.assertIn('the site was here', base.read(config))
        daemon = os.readlink(f'/proc/{self.lab.daemon("n2").pid}/exe')
        self.assertTrue(daemon.endswith('(deleted)'), daemon)
      with self.subTest('the containers run on; an old daemon moves them with new programs'):
        self.moved('pack-1', 'n1')
      with self.subTest('so they do when the daemons are started anew, and move'):
        for node in operator.COMPUTE:   # `lifeboat run` in the foreground ends with the head's
          self.lab.must('daemon', node, 'restart')
        self.moved('pack-0', 'n3')
        self.assertIsNone(job.process.poll(), job.text())
    self.lab.run('down')
    self.lab.dirty = True

  def remove(self, before):
    state = self.root / 'var/lib/lifeboat'
    os.makedirs(f'{state}/jobs')
    for path in (f'{state}/registry.db', self.root / 'etc/lifeboat/node.key', self.root / 'etc/lifeboat/checks.d/own'):
      with open(path, 'w', encoding='ascii') as file:
        file.write('x')
    self.root.apt('remove', *NAMES)
    with self.subTest('remove leaves configuration and state'):
      self.assertEqual(self.root.status('lifeboat'), 'config-files')
      self.assertFalse(os.path.exists(self.root / 'usr/sbin/lifeboatd'))
      self.assertIn('the site was here', base.read(self.root / 'etc/lifeboat/lifeboat.yaml'))
      self.assertTrue(os.path.exists(f'{state}/registry.db'))
    self.root.apt('purge', *NAMES)
    with self.subTest('purge leaves what a site has put there itself, and nothing else'):
      own = {'/etc/lifeboat', '/etc/lifeboat/checks.d', '/etc/lifeboat/checks.d/own'}
      self.assertEqual((self.root.files() - before, before - self.root.files()), (own, set()))
      self.assertEqual({name: self.root.status(name) for name in NAMES}, dict.fromkeys(NAMES, ''))


if __name__ == '__main__':
  os.umask(0o022)
  base.unshare(base.CLONE_NEWNS)
  base.private_mounts()
  sys.exit(operator.main(sys.modules[__name__]))
