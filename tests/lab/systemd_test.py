#!/usr/bin/python3
"""The service as systemd runs it: a lab whose nodes boot a real one, with the units of configs/systemd.

  tests/lab/systemd_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

That the daemon can do everything in spite of what its unit forbids; that containers, pagers and jobs live
through the end of the daemon and of the starter, however it comes; and that systemd finds nothing to say.
"""
import contextlib
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from lablib import systemd
from operator_test import Group, wait_for

EXPOSURE_MAX = 5.0
WATCHDOG = 10   # seconds, in these tests
MODES = ('pre-copy', 'stop-and-copy', 'post-copy', 'hybrid', 'criu-images')

operator_test.COMPUTE = ('n1', 'n2', 'n3')
operator_test.under_systemd()
operator_test.LAB_YAML = operator_test.THREE_NODES_YAML + '''
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 20s, commit: 3s}
  health: {probation: 0s}
  sources: {checks: {interval: 300ms, commands: ["read -r code < /run/lifeboat/check && exit $code; exit 0"]}}
'''


# In the daemon's program, and nothing it needs there: read by `lifeboat check`, no system call here, what the starter
# does where there is one (priorities, too), or a priority that is as well left as it is.
UNUSED = {'adjtimex', 'gethostname', 'ptrace', 'setpriority', 'syscall'}
# What others do: the pager, the starter and what it runs are not limited.
OTHER_PROGRAMS = ('src/pager', 'src/starter', 'src/inject')


def system_calls(group, calls={}):
  """The names in one of systemd's groups of system calls."""
  if group not in calls:
    lines = subprocess.run(['systemd-analyze', '--no-pager', 'syscall-filter', group], text=True, check=True,
                           stdout=subprocess.PIPE, timeout=60).stdout.splitlines()[1:]
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]
    calls[group] = set().union(*(system_calls(name) if name.startswith('@') else {name} for name in names))
  return calls[group]


def allowed_system_calls(unit):
  allowed = set()
  with open(f'{operator_test.ROOT}/configs/systemd/{unit}', encoding='utf-8') as file:
    for line in re.findall('^SystemCallFilter=(.*)', file.read(), re.MULTILINE):
      names = [system_calls(name) if name.startswith('@') else {name} for name in line.lstrip('~').split()]
      allowed = allowed - set().union(*names) if line.startswith('~') else allowed.union(*names)
  return allowed


def used_system_calls(program):
  """{name: where}: those that it calls through the C library, and those that its sources call by number."""
  imported = subprocess.run(['nm', '-D', '--undefined-only', program], text=True, check=True,
                            stdout=subprocess.PIPE, timeout=60).stdout.split()
  names = (re.sub('64$', '', name.split('@')[0]) for name in imported)
  used = {name: os.path.basename(program) for name in names if name in system_calls('@known')}
  for top in ('src', 'criu_glue', 'predictor', 'mpi'):
    for directory, _, files in os.walk(os.path.join(operator_test.ROOT, top)):
      for file in files:
        path = os.path.join(directory, file)
        place = os.path.relpath(path, operator_test.ROOT)
        if not file.endswith(('.cpp', '.hpp')) or place.startswith(OTHER_PROGRAMS):
          continue
        with open(path, encoding='utf-8') as text:
          used.update({name: place for name in re.findall(r'\bSYS_([a-z0-9_]+)', text.read())})
  return used


def nice_of_threads(pid):
  found = set()
  for thread in os.listdir(f'/proc/{pid}/task'):
    with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{thread}/stat', encoding='utf-8') as file:
      found.add(int(file.read().rpartition(')')[2].split()[16]))   # field 19 of proc_pid_stat(5)
  return found


class Systemd(Group):
  def service(self, node):
    return self.lab.state().daemon(node)

  def tasks(self, node, container):
    """The pids of a container's tasks."""
    from lablib import cgroup
    path, = cgroup.trees(f'{self.lab.state().containers_of(node)}/{container}')
    return sorted(cgroup.members(path))

  def show(self, node, unit, *properties):
    text = self.service(node).systemctl('show', unit, *(f'--property={name}' for name in properties))
    return dict(line.split('=', 1) for line in text.splitlines())

  def back(self, node, before):
    """Waits until another daemon than `before` is ready there, and the head has heard of it."""
    def another():
      daemon = self.lab.daemon(node)
      return daemon is not None and daemon.pid != before.pid and self.service(node).answers() is None
    wait_for(lambda: f'another daemon on {node}: {self.service(node).systemctl("status", "lifeboatd", check=False)}',
             60, another)
    self.lab.known_as_up(node)

  def test_units(self):
    with self.subTest('systemd-analyze verify says nothing'):
      units = [f'/usr/lib/systemd/system/{name}' for name in systemd.units()]
      self.assertEqual(self.service('n1').inside('systemd-analyze', 'verify', '--man=no', *units), '')
    with self.subTest(f'the daemon\'s exposure is below {EXPOSURE_MAX}'):
      text = self.service('n1').inside('systemd-analyze', 'security', '--no-pager', 'lifeboatd.service')
      exposure = float(re.search(r'Overall exposure level for lifeboatd.service: (\S+)', text)[1])
      self.assertLess(exposure, EXPOSURE_MAX)
    with self.subTest('its unit allows every system call that is in it'):
      used = used_system_calls(f'{operator_test.BUILD}/lifeboatd')
      self.assertLess({'pidfd_getfd', 'userfaultfd', 'setns', 'mount'}, used.keys())
      allowed = allowed_system_calls('lifeboatd.service')
      self.assertEqual({name: where for name, where in used.items() if name not in allowed | UNUSED}, {})
    with self.subTest('it is limited: no module, no clock, no other privilege'):
      status = self.service('n1').inside('sh', '-c', 'cat /proc/$(systemctl show -P MainPID lifeboatd)/status')
      self.assertRegex(status, r'Seccomp:\s+2')
      self.assertRegex(status, r'NoNewPrivs:\s+1')
      capabilities = int(re.search(r'CapBnd:\s+(\w+)', status)[1], 16)
      for name, bit in (('SYS_MODULE', 16), ('SYS_RAWIO', 17), ('SYS_BOOT', 22), ('SYS_TIME', 25), ('SETUID', 7)):
        self.assertFalse(capabilities >> bit & 1, name)

  def test_checks(self):
    def node():
      return self.lab.api('GET', '/v1/nodes/n2')[1]

    def says(code):
      self.service('n2').inside('sh', '-c', f'echo {code} > /run/lifeboat/check')

    with self.subTest('the exit status of a site\'s own check is a verdict'):
      self.assertEqual(node()['state'], 'up')
      says(1)
      wait_for(node, 15, lambda: node()['state'] == 'degraded')
      self.assertIn('/run/lifeboat/check', node()['reason'])
    with self.subTest('once it is fine again an operator may say so'):
      self.service('n2').inside('rm', '/run/lifeboat/check')
      self.assertEqual(self.lab.lifeboat('node', 'restore', 'n2')[:2], (0, 'n2 is up\n'))

  def test_moves(self):
    with self.job('mv', n=4000) as job:
      with self.subTest('what it starts is not limited, and not in its cgroup'):
        pid = self.tasks('n1', 'mv-0')[0]
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
          self.assertRegex(file.read(), r'Seccomp:\s+0')
        with open(f'/proc/{pid}/cgroup', encoding='ascii') as file:
          self.assertIn('lifeboat-starter.service/containers/mv-0', file.read())
      targets = {'n1': 'n3', 'n3': 'n1'}
      node = 'n1'
      for mode in MODES:
        with self.subTest(f'{mode}'):
          code, out, error = self.lab.lifeboat('migrate', 'mv-0', '--to', targets[node], '--mode', mode)
          self.assertEqual(code, 0, out + error)
          self.assertNotIn('warning', out)
          node = targets[node]
          self.runs_on('mv-0', node, job)
      with self.subTest('rounds are sent by threads of ordinary priority'):
        migration = self.lab.start_migration('mv-0', targets[node], mode='pre-copy', bytes_per_s=400_000)
        self.in_phase(migration, ('pre-copy',))
        wait_for('threads of both priorities', 10, lambda: nice_of_threads(self.lab.daemon(node).pid) == {-10, 0})
        self.lab.api('POST', f'/v1/migrations/{migration}/cancel', {})
        self.over(migration)
        self.runs_on('mv-0', node, job)
      with self.subTest('nothing was forbidden to it'):
        text = self.service('n1').inside('journalctl', '-u', 'lifeboatd', '--no-pager') + \
            self.service('n3').inside('journalctl', '-u', 'lifeboatd', '--no-pager')
        self.assertNotIn('Operation not permitted', text)
        self.assertNotIn('Read-only file system', text)

  def test_filtered(self):
    with open(f'{self.lab.bundle}/config.json', encoding='utf-8') as file:
      config = json.load(file)
    config['root']['path'] = f'{self.lab.bundle}/rootfs'
    config['linux']['seccomp'] = {
      'defaultAction': 'SCMP_ACT_ALLOW',
      'syscalls': [{'names': ['userfaultfd', 'keyctl'], 'action': 'SCMP_ACT_KILL_PROCESS'}]}
    bundle = os.path.dirname(self.lab.write('filtered/config.json', json.dumps(config)))
    with self.job('fi', n=4000, bundle=bundle) as job:
      with self.subTest('a container with a seccomp filter moves while it runs'):
        pid = self.tasks('n1', 'fi-0')[0]
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
          self.assertRegex(file.read(), r'Seccomp:\s+2')
        self.moved('fi-0', 'n3')
        self.runs_on('fi-0', 'n3', job)

  def test_layer(self):
    with self.job('ly', n=4000, root='overlay', writable='64MiB') as job:
      with self.subTest('with a writable layer'):
        self.moved('ly-0', 'n3')
        self.runs_on('ly-0', 'n3', job)

  def test_ends(self):
    with self.job('en', n=4000) as job:
      before = self.tasks('n1', 'en-0')
      for what, do in (('restart', lambda: self.service('n1').systemctl('restart', 'lifeboatd')),
                       ('kill -9', lambda: self.lab.crash('n1'))):
        with self.subTest(f'{what}: the tasks are the same, the next daemon moves them'):
          daemon = self.lab.daemon('n1')
          do()
          self.back('n1', daemon)
          self.assertEqual(self.tasks('n1', 'en-0'), before)
          self.runs_on('en-0', 'n1', job)
      with self.subTest('systemd has started it again by itself'):
        self.assertEqual(self.show('n1', 'lifeboatd', 'NRestarts'), {'NRestarts': '1'})
      with self.subTest('and would however often, which by default is five times within 10 s'):
        for unit in ('lifeboatd', 'lifeboat-starter'):
          self.assertEqual(self.show('n1', unit, 'StartLimitIntervalUSec'), {'StartLimitIntervalUSec': '0'})
      with self.subTest('the starter is killed: systemd starts another, containers stay'):
        starter = self.service('n1').starter()
        self.service('n1').systemctl('kill', '--kill-whom=main', '--signal=KILL', 'lifeboat-starter')
        wait_for(lambda: 'another starter', 20,
                 lambda: self.service('n1').starter() and self.service('n1').starter().pid != starter.pid)
        self.assertEqual(self.tasks('n1', 'en-0'), before)
        wait_for(lambda: 'the daemon', 20, lambda: self.service('n1').answers() is None)
      with self.subTest('and it moves'):
        self.moved('en-0', 'n3')
        self.runs_on('en-0', 'n3', job)

  def test_watchdog(self):
    import signal
    self.lab.dirty = True   # another lab for the next group
    for node in ('n1', 'n3'):
      before = self.lab.daemon(node)
      self.service(node).inside(
        'sh', '-c', 'mkdir -p /run/systemd/system/lifeboatd.service.d && printf '
        f'"[Service]\\nWatchdogSec={WATCHDOG}\\n" > /run/systemd/system/lifeboatd.service.d/test.conf '
        '&& systemctl daemon-reload && systemctl restart lifeboatd')
      self.back(node, before)
    with self.job('wd', n=4000) as job:
      with self.subTest('a daemon that hangs is ended and started again; the container runs on'):
        before, tasks = self.lab.daemon('n1'), self.tasks('n1', 'wd-0')
        before.kill(signal.SIGSTOP)
        self.back('n1', before)
        self.assertEqual(self.tasks('n1', 'wd-0'), tasks)
        self.assertIn('watchdog', self.service('n1').inside('journalctl', '-u', 'lifeboatd', '--no-pager').lower())
        self.runs_on('wd-0', 'n1', job)
      with self.subTest('while a container moves: it runs at one of both'):
        migration = self.lab.start_migration('wd-0', 'n3', '100m')
        self.in_phase(migration, ('pre-copy', 'drain'))
        target = self.lab.daemon('n3')
        target.kill(signal.SIGSTOP)
        self.back('n3', target)
        self.lab.settled('wd-0', job.ranks, 30)

  def test_shutdown(self):
    node = self.service('n1')
    with self.job('sd', n=4000) as job:
      node.systemctl('start', 'lifeboat-evacuate')
      with self.subTest('a node that is told to power off is emptied first'):
        node.systemctl('poweroff')
        self.assertTrue(node.init.wait(180), 'it has not powered off')
        self.runs_on('sd-0', 'n3', job)
      with self.subTest('booted again it takes containers'):
        self.lab.must('kill', 'n1')  # the lab does not know yet
        self.lab.must('boot', 'n1')
        self.service('n1').systemctl('start', 'lifeboat-evacuate')
        self.lab.known_as_up('n1')
        self.moved('sd-0', 'n1')
        self.runs_on('sd-0', 'n1', job)

  def test_reload(self):
    with self.subTest('a configuration with an error is refused, with the place, and nothing changes'):
      service, config = self.service('n1'), self.lab.inside('n1', '/run/lifeboat/lifeboat.yaml')
      with open(config, encoding='utf-8') as file:
        good = file.read()
      daemon = self.lab.daemon('n1')
      with open(config, 'w', encoding='utf-8') as file:
        file.write(good + 'nonsense: 1\n')
      service.systemctl('reload', 'lifeboatd', check=False)
      wait_for(lambda: service.inside('journalctl', '-u', 'lifeboatd', '--no-pager'), 10,
               lambda: 'nonsense' in service.inside('journalctl', '-u', 'lifeboatd', '--no-pager'))
      self.assertEqual(self.lab.daemon('n1').pid, daemon.pid)
      self.assertIsNone(service.answers())
    with self.subTest('a good one is taken'):
      with open(config, 'w', encoding='utf-8') as file:
        file.write(good + 'network: {tcp_retries: 200}\n')
      service.systemctl('reload', 'lifeboatd')
      wait_for(lambda: service.inside('journalctl', '-u', 'lifeboatd', '--no-pager'), 10,
               lambda: 'taken=network' in service.inside('journalctl', '-u', 'lifeboatd', '--no-pager'))
      self.assertEqual(self.lab.daemon('n1').pid, daemon.pid)
    with self.subTest('a daemon that cannot read its own at the start is not started again until somebody does'):
      with open(config, 'w', encoding='utf-8') as file:
        file.write(good + 'nonsense: 1\n')
      self.lab.crash('n1')
      wait_for(lambda: service.systemctl('status', 'lifeboatd', check=False), 20,
               lambda: self.show('n1', 'lifeboatd', 'ActiveState') == {'ActiveState': 'failed'})
      with open(config, 'w', encoding='utf-8') as file:
        file.write(good)
      service.systemctl('start', 'lifeboatd')
      self.back('n1', daemon)


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules['__main__']))
