"""What a node that runs systemd is made of: the units of configs/systemd, and a system for them alone."""
import os
import re

from lablib import base

UNITS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                     'configs', 'systemd')
INIT = '/lib/systemd/systemd'
TARGET = 'lifeboat-lab.target'
SLICE = 'system.slice'
GROUP = 'systemd'    # what systemd has for its root, below the node's group
CONTAINERS = f'{SLICE}/lifeboat-starter.service/containers'   # below systemd's root
SYSTEM = '/usr/lib/systemd/system'
# Of the host's units only targets and these: what else it runs, and sets in its kernel, is its own affair.
WANTED = ('systemd-journald.service', 'systemd-journald.socket', 'systemd-poweroff.service', 'init.scope',
          '-.slice', 'system.slice')
UNIT_DIRECTORIES = (SYSTEM, '/etc/systemd/system', '/usr/lib/systemd/system-generators',
                    '/usr/lib/systemd/system-environment-generators')
BUILD = '/run/lifeboat-build'
# What a snapshot of the lab shows when containers have been there: the service's own.
KEPT = (r'nodes\.\w+\.cgroups: \+ unified:systemd/system.slice/lifeboat-starter.service/containers$',
        r'nodes\.\w+\.files: . /run/systemd/(journal/streams|system|units)/')


def units():
  return sorted(name for name in os.listdir(UNITS) if name.endswith('.service'))


def furnish(name, build):
  """In a node, before its systemd: what is to be its own, and its units."""
  os.makedirs(BUILD)
  base.mount(build, BUILD, None, base.MS_BIND)
  overlay('/etc')
  of_host = {name: base.read(os.path.join(SYSTEM, name)) for name in os.listdir(SYSTEM)
             if name in WANTED or name.endswith('.target') and os.path.isfile(os.path.join(SYSTEM, name))}
  for path in ('/var/tmp', '/var/log', '/var/lib/systemd', *UNIT_DIRECTORIES):
    if os.path.isdir(path):
      base.mount('tmpfs', path, 'tmpfs', base.MS_NOSUID | base.MS_NODEV, 'mode=755')
  for unit in units():
    text = base.read(os.path.join(UNITS, unit))
    of_host[unit] = re.sub(r'/usr/(sbin|bin|libexec/lifeboat)/(?=lifeboat)', BUILD + '/', text)
  of_host[TARGET] = ('[Unit]\nDescription=A node of a lab\nWants=systemd-journald.service\n'
                     'After=systemd-journald.service\n')
  for unit, text in of_host.items():
    write(f'{SYSTEM}/{unit}', text)
  os.makedirs('/etc/lifeboat', exist_ok=True)
  os.symlink('/run/lifeboat/lifeboat.yaml', '/etc/lifeboat/lifeboat.yaml')
  write('/etc/systemd/journald.conf', '[Journal]\nReadKMsg=no\n')
  write('/etc/hostname', name + '\n')
  write('/etc/machine-id', 'uninitialized\n')


def write(path, text):
  with open(path, 'w', encoding='utf-8') as file:
    file.write(text)


def overlay(path):
  """What is written below it stays in the node."""
  own = f'/run/.lab{path}'
  os.makedirs(own)
  base.mount('tmpfs', own, 'tmpfs', 0, 'mode=755')
  for part in ('upper', 'work'):
    os.mkdir(f'{own}/{part}')
  base.mount('overlay', path, 'overlay', 0, f'lowerdir={path},upperdir={own}/upper,workdir={own}/work')


def boot(marker, state_root, target):
  """Becomes systemd, once this process is in its cgroup. Those who look for the node's init find it by the
  same words as before."""
  # Its own cgroups alone, at the place of current systems, instead of the host's.
  base.unmount('/sys', base.MNT_DETACH)
  base.mount('sysfs', '/sys', 'sysfs', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  base.unshare(base.CLONE_NEWCGROUP)
  base.mount('cgroup2', '/sys/fs/cgroup', 'cgroup2', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  # As systemd has it on a machine, though not in a container: what is mounted later is seen by services, too.
  base.mount('none', '/', None, base.MS_REC | base.MS_SHARED)
  os.execve(INIT, [INIT, 'lab', '_node', marker, state_root, f'systemd.unit={target}',
                   'systemd.show_status=false'],
            {'container': 'lifeboat-lab', 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
