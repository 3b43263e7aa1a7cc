#!/usr/bin/python3
"""The private writable layer and the tmpfs mounts of a container, moved with it: one lab, one container, real CRIU.

The program (layer_program.c) uses its root in every way that a move could break and checks what it
sees; this test compares the layers themselves. Exit status: 0 passed, 1 failed, 77 skipped; the last
line is "N passed, N failed, N skipped".

  LIFEBOAT_TEST_BUILD   where lifeboatd and lifeboat are (default: build/dev/bin)
"""
import hashlib
import json
import os
import stat
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test as operator

operator.COMPUTE = ('n1', 'n2', 'n3')
operator.LAB_YAML = '''
fabrics:
  - {name: 10g, subnet: 10.2.0.0/16, rate: 10Gbit, burst: 4mb}
  - {name: 100m, subnet: 10.3.0.0/16, rate: 100Mbit, burst: 128kb}
default_fabric: 10g
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB}
  - {name: n2, memory: 8GiB}
  - {name: n3, memory: 8GiB}
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 5s, restore: 10s, commit: 5s}
  health: {probation: 0s}
'''
CONTAINER = 'layer-0'
TMPFS = ('/dev', '/dev/shm', '/tmp', '/run')
LAYERS = '/var/lib/lifeboat/layers'
passed = failed = 0


def check(name, good, text=''):
  global passed, failed
  print(f'{"passed" if good else "FAILED"}  {name}', flush=True)
  if good:
    passed += 1
  else:
    failed += 1
    print('\n'.join('  | ' + line for line in str(text).splitlines()[:30]), flush=True)


def describe(root):
  """Everything about a layer but inode numbers and what the program is writing to. What is mounted
  below it is left out."""
  found, first = {}, {}
  paths = [root]
  device = os.lstat(root).st_dev
  for directory, names, files in os.walk(root):
    names[:] = [name for name in names if os.lstat(os.path.join(directory, name)).st_dev == device]
    paths += [os.path.join(directory, name) for name in names + files]
  for path in sorted(paths):
    name = os.path.relpath(path, root)
    if name.startswith(('data/live', 'live', 'stdio.log')):
      continue
    info = os.lstat(path)
    attributes = {key: os.getxattr(path, key, follow_symlinks=False)
                  for key in os.listxattr(path, follow_symlinks=False)
                  if key == 'trusted.overlay.opaque' or not key.startswith('trusted.')}
    # CRIU binds a socket anew: its times are new.
    changed = 0 if stat.S_ISSOCK(info.st_mode) else info.st_mtime_ns
    entry = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, changed, attributes]
    # An overlay gives one inode to all its whiteouts.
    whiteout = stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
    if not stat.S_ISDIR(info.st_mode) and not whiteout:
      entry += [info.st_nlink, first.setdefault(info.st_ino, name)]
    if stat.S_ISLNK(info.st_mode):
      entry.append(os.readlink(path))
    if stat.S_ISREG(info.st_mode):
      entry.append(info.st_size)
      if info.st_size < 1 << 30:
        with open(path, 'rb') as file:
          entry.append(hashlib.sha256(file.read()).hexdigest())
      else:
        entry.append(info.st_blocks < 1000)
    found[name] = entry
  return found


def difference(a, b):
  return '\n'.join(f'{name}: {a.get(name)} -> {b.get(name)}'
                   for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name))


class LayerTest:
  def __init__(self, lab):
    self.lab = lab

  def upper(self, node):
    return self.lab.inside(node, f'{LAYERS}/{CONTAINER}/upper')

  def layers(self, node):
    path = self.lab.inside(node, LAYERS)
    return os.listdir(path) if os.path.isdir(path) else []

  def tmpfs(self, node):
    """What is in the container's tmpfs mounts and how they are mounted."""
    init = f'/proc/{self.init(node)}'
    with open(f'{init}/mountinfo', encoding='utf-8') as file:
      lines = [line.split() for line in file]
    mounts = {line[4]: [line[5], *line[line.index('-') + 1:]] for line in lines}
    found = {f'mounts {target}': [mount] for target, mount in mounts.items()}
    for target in TMPFS:
      found.update({f'{target}: {name}': entry
                    for name, entry in describe(f'{init}/root{target}').items()})
    return found

  def move(self, source, target, mode):
    before = describe(self.upper(source))
    tmpfs_before = self.tmpfs(source)
    code, out, error = self.lab.lifeboat('migrate', CONTAINER, '--to', target, '--mode', mode, '--json')
    name = f'{mode} from {source} to {target}'
    check(f'{name}: it runs there', code == 0 and self.lab.where(CONTAINER) == [target], out + error)
    if code != 0:
      return
    check(f'{name}: the same layer', difference(before, describe(self.upper(target))) == '',
          difference(before, describe(self.upper(target))))
    tmpfs_after = self.tmpfs(target)
    check(f'{name}: the same in tmpfs, mounted in the same way',
          difference(tmpfs_before, tmpfs_after) == '', difference(tmpfs_before, tmpfs_after))
    for live in (os.path.join(self.upper(target), 'data/live'),
                 f'/proc/{self.init(target)}/root/dev/shm/live'):
      names = os.listdir(live)
      check(f'{name}: no name of CRIU\'s is left', sorted(names) == ['log', 'mapped', 'other'], names)
    operator.wait_for(lambda: f'{source} has {self.layers(source)}', 5, lambda: not self.layers(source))
    check(f'{name}: nothing is left at the source', True)
    report = self.lab.api('GET', '/v1/migrations', node=source)[1]['migrations'][-1]
    layer = report['layer']
    print(f'   {layer} downtime {report["downtime_ms"]} ms, {report["downtime_parts_ms"]} '
          f'{report["warnings"]}')
    check(f'{name}: sent while it ran, the rest while frozen',
          layer['files'] >= 508 and layer['bytes_running'] > 600_000 and
          layer['bytes_frozen'] < 400_000, layer)

  def abort(self, source, target, how, begin, text):
    """A migration over a slow network that must fail: nothing there, all as before here."""
    before = describe(self.upper(source))
    migration = self.lab.start_migration(CONTAINER, target, '100m')
    begin(migration)
    report = self.over(migration)
    check(f'{how}: aborted, says why', report['outcome'] == 'aborted' and text in report['error'], report)
    operator.wait_for(lambda: f'only on {source}: {self.lab.containers()}', 20,
                      lambda: self.lab.where(CONTAINER) == [source])
    check(f'{how}: it runs on', True)
    check(f'{how}: its layer is untouched', difference(before, describe(self.upper(source))) == '',
          difference(before, describe(self.upper(source))))
    operator.wait_for(lambda: f'{target} has {self.layers(target)}', 15, lambda: not self.layers(target))
    check(f'{how}: nothing is left at the target', True)

  def over(self, migration):
    def ended():
      report = self.lab.migration(migration)
      return report if report.get('outcome') in ('committed', 'aborted') else None
    return operator.wait_for('the end of the migration', 40, ended)

  def in_layer_phase(self, migration):
    operator.wait_for('the layer on its way', 10, lambda: self.layers('n3') and
                      self.lab.migration(migration).get('phase') == 'layer', pause=0.01)
    time.sleep(0.3)

  def killed(self, migration):
    self.in_layer_phase(migration)
    self.lab.crash('n3')
    self.over(migration)
    self.lab.must('daemon', 'n3', 'start')

  def cancelled(self, migration):
    self.in_layer_phase(migration)
    status, answer = self.lab.api('POST', f'/v1/migrations/{migration}/cancel', {}, node='n1')
    check('cancel is accepted', status == 200, answer)

  def run(self):
    lab = self.lab
    lab.up()
    job = operator.Job(lab, 'layer', containers=1, nodes=('n1',), command=['/work/program'],
                       root='overlay', writable='256MiB')
    work = os.path.join(lab.work, 'layer', 'work')
    subprocess.run(['gcc', '-O1', '-Wall', '-static', '-o', f'{work}/program',
                    os.path.join(operator.ROOT, 'tests/lab/layer_program.c')], check=True, timeout=120)
    job.start()
    operator.wait_for(lambda: f'READY in {job.text()}', 20, lambda: 'READY' in job.text())
    self.move('n1', 'n2', 'stop-and-copy')
    self.move('n2', 'n1', 'pre-copy')
    self.move('n1', 'n2', 'pre-copy')
    self.move('n2', 'n1', 'stop-and-copy')
    code, out, error = lab.lifeboat('migrate', CONTAINER, '--to', 'n2', '--dry-run', '--json')
    check('a dry run predicts it', code == 0 and json.loads(out)['layer_files'] >= 508 and
          json.loads(out)['layer_bytes'] > 600_000, out + error)
    # Enough to be hit while it is on its way.
    root = f'/proc/{self.init("n1")}/root'
    with open(f'{root}/data/still/big', 'wb') as file:
      file.write(os.urandom(80 << 20))
    self.abort('n1', 'n3', 'the target\'s daemon is killed', self.killed, '')
    self.abort('n1', 'n3', 'it is cancelled', self.cancelled, '')
    lab.must('exec', 'n3', 'mkdir', '-p', LAYERS)
    lab.must('exec', 'n3', 'mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', LAYERS)
    self.abort('n1', 'n3', 'no room at the target', lambda _: None, 'no room for its writable layer')
    lab.must('exec', 'n3', 'umount', LAYERS)
    lab.must('exec', 'n3', 'rm', '-rf', LAYERS, '/run/mount')  # the latter is umount's
    lab.write('layer/work/stop', '')
    code = job.wait(40)
    check('the program saw nothing wrong', code == 0 and 'RIGHT after' in job.text(), job.text())
    operator.wait_for(lambda: '\n'.join(lab.left()), 12, lambda: not lab.left(), 0.3)
    check('nothing is left anywhere', True)

  def init(self, node):
    """The container's first process, as this machine sees it."""
    from lablib import base, cgroup
    for path in cgroup.trees(f'{self.lab.state().containers_of(node)}/{CONTAINER}'):
      tasks = base.read(f'{path}/cgroup.procs', '').split()
      if tasks:
        return int(tasks[0])
    raise AssertionError(f'{CONTAINER} is not on {node}')


def main():
  if os.geteuid() != 0:
    operator.skip('namespaces, cgroups and CRIU need root')
  if not os.access(f'{operator.BUILD}/lifeboatd', os.X_OK):
    operator.skip(f'{operator.BUILD}/lifeboatd has not been built')
  if subprocess.run([f'{operator.ROOT}/scripts/setup', '--print-env'], capture_output=True,
                    check=False, timeout=60).returncode != 0:
    operator.skip('scripts/setup has not been run')
  lab = operator.Cluster()
  try:
    LayerTest(lab).run()
  except AssertionError as error:
    check('the test itself', False, error)
  finally:
    if failed:
      for node in operator.COMPUTE:
        print('\n'.join(f'  |{node}| {line}' for line in lab.log(node).splitlines()[-25:]))
    lab.remove()
  print(f'{passed} passed, {failed} failed, 0 skipped')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
