"""What a node of `lab up --root` is made of: a whole Debian system that it boots, as a machine of its own.

The tree is the nodes' common one; what each writes goes to a layer of its own in the lab's directory, so it
is still there after `kill` and `boot`. /srv is the lab's shared storage. What a container cannot have (udev,
clocks, consoles), and what would set the machine's own kernel, is masked.
"""
import os

from lablib import base, systemd

TARGET = 'multi-user.target'
SHARED = 'srv'       # below the lab's directory, and in the nodes
DEVICES = ('null', 'zero', 'full', 'random', 'urandom', 'tty', 'kmsg', 'net/tun', 'fuse', 'loop-control')
MASKED = ('systemd-sysctl.service', 'systemd-modules-load.service', 'systemd-udevd.service',
          'systemd-udev-trigger.service', 'systemd-timesyncd.service', 'systemd-binfmt.service',
          'proc-sys-fs-binfmt_misc.automount', 'proc-sys-fs-binfmt_misc.mount', 'sys-kernel-config.mount',
          'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'dev-hugepages.mount', 'dev-mqueue.mount',
          'kmod-static-nodes.service', 'systemd-tmpfiles-setup-dev.service', 'systemd-logind.service',
          'getty.target', 'apt-daily.timer', 'apt-daily-upgrade.timer', 'e2scrub_all.timer', 'fstrim.timer')


def enter(lab_dir, node, tree):
  """Makes the tree, with the node's layer over it, this process's root."""
  os.chdir('/')
  os.umask(0o022)
  base.private_mounts()
  own = os.path.join(lab_dir, node, 'layer')
  root = os.path.join(own, 'root')
  for path in (os.path.join(own, 'upper'), os.path.join(own, 'work'), root):
    os.makedirs(path, exist_ok=True)
  os.chmod(os.path.join(own, 'upper'), 0o755)
  base.mount('overlay', root, 'overlay', 0, f'lowerdir={tree},upperdir={own}/upper,workdir={own}/work')
  base.mount(os.path.join(lab_dir, SHARED), os.path.join(root, SHARED), None, base.MS_BIND)
  make_devices(os.path.join(root, 'dev'))
  base.mount('proc', f'{root}/proc', 'proc', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  base.mount('sysfs', f'{root}/sys', 'sysfs', base.MS_NOSUID | base.MS_NODEV | base.MS_NOEXEC)
  base.mount('tmpfs', f'{root}/run', 'tmpfs', base.MS_NOSUID | base.MS_NODEV, 'mode=755')
  write_files(root, node, base.read(os.path.join(lab_dir, 'hosts')))
  base.pivot_root(root)


def make_devices(directory):
  base.mount('tmpfs', directory, 'tmpfs', base.MS_NOSUID, 'mode=755')
  for name in DEVICES:
    if not os.path.exists(f'/dev/{name}'):
      continue
    os.makedirs(os.path.dirname(f'{directory}/{name}'), exist_ok=True)
    os.close(os.open(f'{directory}/{name}', os.O_CREAT, 0o600))
    base.mount(f'/dev/{name}', f'{directory}/{name}', None, base.MS_BIND)
  for name, kind, options in (('shm', 'tmpfs', 'mode=1777'), ('mqueue', 'mqueue', None),
                              ('pts', 'devpts', 'newinstance,ptmxmode=0666,mode=620,gid=5')):
    os.mkdir(f'{directory}/{name}')
    base.mount(kind, f'{directory}/{name}', kind, base.MS_NOSUID | base.MS_NOEXEC, options)
  for name, target in (('ptmx', 'pts/ptmx'), ('fd', '/proc/self/fd'), ('stdin', '/proc/self/fd/0'),
                       ('stdout', '/proc/self/fd/1'), ('stderr', '/proc/self/fd/2')):
    os.symlink(target, f'{directory}/{name}')


def write_files(root, node, hosts):
  systemd.write(f'{root}/etc/hosts', hosts)
  systemd.write(f'{root}/etc/hostname', node + '\n')
  os.makedirs(f'{root}/etc/systemd/journald.conf.d', exist_ok=True)
  systemd.write(f'{root}/etc/systemd/journald.conf.d/lab.conf', '[Journal]\nReadKMsg=no\n')
  if not base.read(f'{root}/etc/machine-id', '').strip():
    systemd.write(f'{root}/etc/machine-id', 'uninitialized\n')
  for unit in MASKED:
    path = f'{root}/etc/systemd/system/{unit}'
    if not os.path.lexists(path):
      os.symlink('/dev/null', path)
