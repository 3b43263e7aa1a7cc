"""What can be known about a lab in which something went wrong, written into a directory."""
import os
import shutil
import subprocess
import time

from lablib.base import read


def run(path, *command, seconds=20):
  with open(path, 'ab') as file:
    file.write(f'\n$ {" ".join(command)}\n'.encode())
    file.flush()
    try:
      subprocess.run(['timeout', str(seconds), *command], stdout=file, stderr=subprocess.STDOUT,
                     stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
      file.write(f'{error}\n'.encode())


def of_process(directory, pid):
  comm = read(f'/proc/{pid}/comm', 'gone').strip().replace('/', '_')
  path = os.path.join(directory, f'{pid}-{comm}.txt')
  with open(path, 'w', encoding='utf-8') as file:
    for name in ('status', 'wchan', 'stack', 'syscall'):
      file.write(f'--- {name}\n{read(f"/proc/{pid}/{name}", "(cannot be read)")}\n')
  run(path, 'ls', '-l', f'/proc/{pid}/fd')
  run(path, 'gdb', '-p', str(pid), '-batch', '-ex', f'set sysroot /proc/{pid}/root',
      '-ex', 'thread apply all bt')


def of_network(path, pid):
  """The sockets and counters of the network namespace a process is in."""
  run(path, 'cat', f'/proc/{pid}/net/tcp')
  for command in ('ss -tinoem', 'nstat -az', 'ip -s link', 'ip neigh'):
    run(path, 'nsenter', '-t', str(pid), '-n', *command.split())


def collect(cluster, job, directory, reason):
  """Never fails: what cannot be had is left out."""
  shutil.rmtree(directory, ignore_errors=True)
  os.makedirs(directory)
  with open(os.path.join(directory, 'reason.txt'), 'w', encoding='utf-8') as file:
    file.write(f'{time.strftime("%Y-%m-%d %H:%M:%S")}\n{reason}\n')
  if job is not None:
    with open(os.path.join(directory, 'job.txt'), 'w', encoding='utf-8') as file:
      file.write(job.text() + '\n')
  for words in (('ps',), ('nodes',), ('migrations', '--json')):
    run(os.path.join(directory, 'lifeboat.txt'), *cluster.command(*words))
  run(os.path.join(directory, 'processes.txt'), 'ps', '-eo', 'pid,ppid,stat,wchan:24,pcpu,rss,args')
  names = job.containers if job is not None else []
  for node in [cluster.head, *cluster.nodes]:
    with open(os.path.join(directory, f'daemon-{node}.log'), 'w', encoding='utf-8') as file:
      file.write('\n'.join(cluster.daemon_log(node)) + '\n')
    init = cluster.lab.init(node)
    if init is not None:
      of_network(os.path.join(directory, f'network-{node}.txt'), init.pid)
    for name in names:
      pids = cluster.pids_of(name, node)
      if pids:
        of_network(os.path.join(directory, f'network-{name}-on-{node}.txt'), pids[0])
        place = os.path.join(directory, f'{name}-on-{node}')
        os.makedirs(place, exist_ok=True)
        for pid in pids:
          of_process(place, pid)
