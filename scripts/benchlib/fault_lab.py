"""The lab of `scripts/soak faults`: what is waited for is short there, and the nodes' disks are small.

The nodes' state_dirs are file systems of their own, mounted outside of the nodes so that they keep over a
power cut what they have. Nobody else sees them: see private_mounts().
"""
import os
import subprocess

from benchlib import harness
from lablib import base

LEASE = 3
LAB_YAML = f'''
fabrics:
  - {{name: 1g, subnet: 10.1.0.0/16, rate: 1Gbit, burst: 512kb}}
  - {{name: 10g, subnet: 10.2.0.0/16, rate: 10Gbit, burst: 4mb}}
default_fabric: 10g
nodes:
  - {{name: head, role: head}}
  - {{name: n1, memory: 8GiB, slots: 8}}
  - {{name: n2, memory: 8GiB, slots: 8}}
  - {{name: n3, memory: 8GiB, slots: 8}}
lifeboat:
  timeouts: {{connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 3s}}
  registry: {{timeout: 2s, lease: {LEASE}s}}
  health: {{probation: 0s}}
  evacuation: {{automatic: false}}
'''
RUN_SIZE = '24m'
STATE_SIZE = '96m'


def private_mounts():
  """What this process mounts from now on goes with it and its nodes."""
  base.unshare(base.CLONE_NEWNS)
  base.private_mounts()


def state_directory(lab, node):
  return os.path.join(lab.node_dir(node), 'state')


def small_run(lab, node):
  """After each boot of the node."""
  subprocess.run(['nsenter', '-t', str(lab.running(node).pid), '-m', 'mount', '-n', '-o', f'remount,size={RUN_SIZE}',
                  '/run'], check=True, timeout=20)


class FaultLab(harness.Cluster):

  def __enter__(self):
    self.args.file = os.path.join(self.work, 'lab.yaml')
    with open(self.args.file, 'w', encoding='ascii') as file:
      file.write(LAB_YAML)
    super().__enter__()
    try:
      for node in self.nodes:
        self.lab.kill(node)
      for node in self.nodes:
        base.mount('state', state_directory(self.lab, node), 'tmpfs', 0, f'size={STATE_SIZE},mode=700')
      for node in self.nodes:
        self.lab.boot(node, True)
        small_run(self.lab, node)
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_):
    if not self.args.keep:
      points = [point for point, *_ in base.mounts()]
      for node in self.nodes:
        if state_directory(self.lab, node) in points:
          base.unmount(state_directory(self.lab, node), base.MNT_DETACH)
    super().__exit__()
