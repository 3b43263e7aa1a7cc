"""Slurm in a lab: a munged in every node, slurmctld in the head, a slurmd in each compute node.

All of it lives in the nodes' own /run/slurm and goes with them; a node that is switched on again has a new
slurmd, the head a slurmctld without jobs. Commands in a node find it by SLURM_CONF.
"""
import os
import shutil
import subprocess
import time

from lablib import base, cgroup
from lablib.base import LabError

DIRECTORY = '/run/slurm'
CONF = f'{DIRECTORY}/slurm.conf'
MUNGE_SOCKET = '/run/munge/munge.socket.2'
PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'scontrol')
IDLE_WITHIN = 20   # seconds

# Ranks are not its children, and a lab's nodes are smaller than the machine says; so it leaves resources alone.
SLURM_CONF = '''ClusterName={lab}
SlurmctldHost={head}({head_address})
AuthType=auth/munge
AuthInfo=socket={socket}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=1
SlurmdTimeout=30
KillWait=3
InactiveLimit=0
{nodes}
PartitionName=lab Nodes={names} Default=YES MaxTime=INFINITE State=UP
'''


class Slurm:
  def __init__(self, lab):
    self.lab = lab
    self.key = os.path.join(lab.directory, 'munge.key')
    self.head = next((n for n in lab.state['nodes'] if n['role'] == 'head'), lab.state['nodes'][0])
    self.compute = [n['name'] for n in lab.state['nodes'] if n['role'] == 'compute']

  @staticmethod
  def check():
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    for program in PROGRAMS:
      if not shutil.which(program):
        raise LabError(f'{program} is missing; install slurmctld, slurmd, slurm-client and munge')

  def conf(self):
    fabric = self.lab.state['default_fabric']
    nodes = [f'NodeName={n["name"]} NodeAddr={n["addresses"][fabric]} CPUs=2 RealMemory=2000 State=UNKNOWN'
             for n in self.lab.state['nodes'] if n['name'] in self.compute]
    return SLURM_CONF.format(
      lab=self.lab.name, head=self.head['name'], head_address=self.head['addresses'][fabric],
      socket=MUNGE_SOCKET, directory=DIRECTORY, nodes='\n'.join(nodes), names=','.join(self.compute))

  def inside(self, node, *argv, check=True):
    """The output of a command in the node, in the node's own cgroup, as what it leaves behind is."""
    init = self.lab.running(node)
    done = subprocess.run(
      ['nsenter', '-t', str(init.pid), '--all', '--', *argv], text=True, check=False, errors='replace',
      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.lab.environment(),
      preexec_fn=lambda: cgroup.join(self.lab.name, node, 'daemon', os.getpid()))
    if check and done.returncode != 0:
      raise LabError(f'{node}: {" ".join(argv)}: status {done.returncode}: {done.stdout.strip()}')
    return done.stdout.strip()

  def start(self, names):
    """In these nodes; returns once Slurm would give them to a job."""
    if not os.path.exists(self.key):
      with open(os.open(self.key, os.O_WRONLY | os.O_CREAT, 0o400), 'wb') as file:
        file.write(os.urandom(128))
    for name in sorted(names, key=lambda name: name != self.head['name']):
      self.furnish(name)
      self.inside(name, 'munged', f'--key-file={DIRECTORY}/munge.key', f'--socket={MUNGE_SOCKET}',
                  f'--log-file={DIRECTORY}/munged.log', f'--pid-file={DIRECTORY}/munged.pid',
                  f'--seed-file={DIRECTORY}/munged.seed', '--force')
      if name == self.head['name']:
        self.inside(name, 'slurmctld', '-f', CONF)
      if name in self.compute:
        self.inside(name, 'slurmd', '-N', name, '-f', CONF)
    self.wait_registered([name for name in names if name in self.compute])

  def furnish(self, name):
    root = f'/proc/{self.lab.running(name).pid}/root'
    for directory in (DIRECTORY, f'{DIRECTORY}/state', f'{DIRECTORY}/spool', os.path.dirname(MUNGE_SOCKET)):
      os.makedirs(root + directory, mode=0o755, exist_ok=True)
    for path, text in ((CONF, self.conf()), (f'{DIRECTORY}/cgroup.conf', 'CgroupPlugin=cgroup/v1\n')):
      with open(root + path, 'w', encoding='utf-8') as file:
        file.write(text)
    shutil.copy(self.key, f'{root}{DIRECTORY}/munge.key')

  def wait_registered(self, names):
    """A slurmd that has registered is not `*`, what else may be said of its node."""
    end = time.monotonic() + IDLE_WITHIN
    while names:
      text = self.inside(self.head['name'], 'sinfo', '-h', '-N', '-o', '%N %T', check=False)
      states = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
      if all(states.get(name, '*')[-1] not in '*~#%$@' and states[name] != 'unknown' for name in names):
        return
      if time.monotonic() > end:
        log = base.read(f'/proc/{self.lab.running(names[0]).pid}/root{DIRECTORY}/slurmd.log', '')
        raise LabError(f'Slurm does not know its nodes within {IDLE_WITHIN} s: {text}\n{log[-2000:]}')
      time.sleep(0.05)
