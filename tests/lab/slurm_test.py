#!/usr/bin/python3
"""With Slurm: a real slurmctld in the head and a slurmd in each node of the lab (scripts/lab up --slurm).

  tests/lab/slurm_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest
"""
import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from demolib.memory_errors import Dimm
from lablib.hpl import hpl_residuals
from operator_test import Group, wait_for

ERRORS = 14   # corrected: more than make a node degraded

operator_test.COMPUTE = ('n1', 'n2', 'n3', 'n4')
operator_test.UP_OPTIONS = ('--slurm',)
operator_test.KEPT += (r'nodes\.\w+\.files: . /run/(slurm|munge)(/.*)?$',)
operator_test.LAB_YAML = operator_test.FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB, slots: 8}
  - name: n2
    memory: 8GiB
    slots: 8
    lifeboat: {sources: {root: WORK/hardware, edac: {interval: 200ms}}}
  - {name: n3, memory: 8GiB, slots: 8}
  - {name: n4, memory: 8GiB, slots: 8}
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 3s}
  health: {heartbeat_lost: 3s, hold: 0s, probation: 0s}
  slurm: {enabled: true, timeout: 6s, refresh: 1s}
'''


class Slurm(Group):
  dimm = None   # of n2

  def setUp(self):
    if self.dimm is None:
      Slurm.dimm = Dimm(os.path.join(self.lab.work, 'hardware'))
    if self.lab.dirty:
      self.dimm.corrected(0)
    super().setUp()
    self.lab.job = None   # those of Slurm are not followed from here

  # ---- Slurm, asked as an operator would

  def slurm(self, *argv, node='head', check=True):
    code, out, error = self.lab.run('exec', node, *argv)
    if check:
      self.assertEqual(code, 0, f'{argv}: {out}{error}')
    return out + error

  def shown(self, node):
    """(state, reason) of a node."""
    text = self.slurm('scontrol', 'show', 'node', node)
    reason = re.search(r'Reason=(.*?)( \[\w+@\S+\])?$', text, re.M)
    return re.search(r'State=(\S+)', text)[1], reason[1] if reason else ''

  def says(self, node, state, reason, seconds=30):
    wait_for(lambda: f'{node} {state} {reason}: {self.shown(node)}', seconds,
             lambda: (lambda s, r: state in s.split('+') and re.fullmatch(reason, r))(*self.shown(node)))

  def ours(self, node, text):
    return rf'lifeboat: {text} \[[\w-]+/{node}/\d+\]'

  def job_state(self, job):
    return re.search(r'JobState=(\S+)', self.slurm('scontrol', 'show', 'job', job))[1]

  def controller(self):
    with open(self.lab.inside('head', '/run/slurm/slurmctld.pid'), encoding='ascii') as file:
      inner = file.read().strip()
    done = subprocess.run(['nsenter', '-t', str(self.lab.pid('head')), '-p', '-m', 'kill', '-0', inner], check=False)
    self.assertEqual(done.returncode, 0)
    return inner

  def to_controller(self, signo):
    subprocess.run(['nsenter', '-t', str(self.lab.pid('head')), '-p', '-m', 'kill', f'-{signo}', self.controller()],
                   check=True)

  def degrade(self, node, reason='a fan is loud'):
    code, out, error = self.lab.lifeboat('node', 'degrade', node, '--reason', reason)
    self.assertEqual(code, 0, out + error)

  def restore(self, node):
    code, out, error = self.lab.lifeboat('node', 'restore', node)
    self.assertEqual(code, 0, out + error)

  # ---- states of nodes

  def test_states(self):
    with self.subTest('an operator\'s word is DRAIN, and goes with it'):
      self.degrade('n3')
      self.says('n3', 'DRAIN', self.ours('n3', 'a fan is loud'))
      self.restore('n3')
      self.says('n3', 'IDLE', '')
    with self.subTest('maintenance is DRAIN'):
      code, out, error = self.lab.lifeboat('evacuate', 'n3')
      self.assertEqual(code, 0, out + error)
      self.says('n3', 'DRAIN', self.ours('n3', 'to be empty, by an operator.s word'))
    with self.subTest('a daemon that starts again has nothing to say, and clears it when it is time'):
      before = self.shown('n3')[1]
      self.lab.must('daemon', 'n3', 'restart')
      time.sleep(1)
      self.says('n3', 'DRAIN', re.escape(before), 0)
      self.restore('n3')
      self.says('n3', 'IDLE', '')
    with self.subTest('what was left of us while it was away is cleared when it starts'):
      self.degrade('n3')
      self.says('n3', 'DRAIN', self.ours('n3', 'a fan is loud'))
      self.lab.crash('n3')
      with open(self.lab.inside('n3', '/var/lib/lifeboat/node-states.jsonl'), 'w', encoding='ascii'):
        pass
      self.lab.must('daemon', 'n3', 'start')
      self.says('n3', 'IDLE', '')
    with self.subTest('another\'s reason stays, whatever becomes of the node'):
      self.slurm('scontrol', 'update', 'nodename=n3', 'state=drain', 'reason=lifeboat: bad disk')
      self.degrade('n3')
      wait_for(lambda: self.lab.log('n3')[-500:], 30, lambda: 'for another reason, which stays' in self.lab.log('n3'))
      self.says('n3', 'DRAIN', 'lifeboat: bad disk', 0)
      self.restore('n3')
      time.sleep(1)
      self.says('n3', 'DRAIN', 'lifeboat: bad disk', 0)
    with self.subTest('once that is gone, our word is said'):
      self.degrade('n3')
      self.slurm('scontrol', 'update', 'nodename=n3', 'state=resume')
      self.says('n3', 'DRAIN', self.ours('n3', 'a fan is loud'))
      self.restore('n3')
      self.says('n3', 'IDLE', '')

  def test_health(self):
    script = os.path.join(operator_test.ROOT, 'configs', 'slurm', 'lifeboat-slurm-health')

    def check(node):
      code, out, error = self.lab.run('exec', node, 'env', f'SLURMD_NODENAME={node}', script)
      return code, (out + error).strip()
    with self.subTest('all is well, or somebody else has spoken: it says nothing'):
      self.assertEqual(check('n4'), (0, ''))
      self.slurm('scontrol', 'update', 'nodename=n4', 'state=drain', 'reason=bad disk')
      self.lab.must('daemon', 'n4', 'stop')
      self.assertEqual(check('n4'), (1, 'lifeboatd does not answer'))
      self.says('n4', 'DRAIN', 'bad disk')
      self.slurm('scontrol', 'update', 'nodename=n4', 'state=resume')
    with self.subTest('lifeboat check looks at it, too'):
      for node in ('n2', 'head'):   # which is none of Slurm's nodes
        said = self.lab.run('exec', node, 'lifeboat', 'check', '--json', '--no-rate', '--config',
                            '/run/lifeboat/lifeboat.yaml', '--node', node)[1]
        found = json.loads(said)['findings']
        self.assertIn(('slurm', 'ok'), [(finding['subject'], finding['result']) for finding in found])
    with self.subTest('a daemon that does not answer drains its node until it does'):
      self.assertEqual(check('n4'), (1, 'lifeboatd does not answer'))
      self.says('n4', 'DRAIN', 'lifeboat-health: lifeboatd does not answer')
      self.lab.must('daemon', 'n4', 'start')
      self.assertEqual(check('n4'), (0, ''))
      self.says('n4', 'IDLE', '')

  # ---- a Slurm that hangs

  def start_s(self, node):
    """Seconds from an operator's word until the first container of the node began to leave; all have left."""
    self.degrade(node)
    wait_for(f'{node} being left', 60, lambda: not self.lab.api('GET', f'/v1/nodes/{node}')[1].get('containers', [1]))
    state = self.lab.api('GET', f'/v1/nodes/{node}')[1]
    word, start = (datetime.fromisoformat(text.replace('Z', '+00:00'))
                   for text in (state['since'], state['evacuation']['migrations'][0]['started_at']))
    return (start - word).total_seconds()

  def closed(self):
    return self.lab.api('GET', '/v1/nodes/head')[1]['slurm']['closed']

  def test_hangs(self):
    with self.job('hg', n=3000, nodes=['n1', 'n3']) as job:
      with self.subTest('nothing is moved to nodes that somebody has drained in Slurm'):
        self.slurm('scontrol', 'update', 'nodename=n2,n4', 'state=drain', 'reason=bad disk')
        wait_for(lambda: f'the head hearing of it: {self.closed()}', 30, lambda: self.closed() == ['n2', 'n4'])
        code, out, error = self.lab.lifeboat('evacuate', 'n3', '--dry-run', '--json')
        self.assertEqual(code, 0, out + error)
        self.assertEqual([step['to'] for step in json.loads(out)['steps']], ['n1'])
        self.slurm('scontrol', 'update', 'nodename=n2,n4', 'state=resume')
        wait_for(lambda: f'the head hearing of it: {self.closed()}', 30, lambda: not self.closed())
      with self.subTest('containers do not wait for it to leave while its controller hangs'):
        self.to_controller('STOP')
        before = len(self.lab.log('n3'))
        said = lambda text: self.lab.log('n3')[before:].count(text)
        try:
          seconds = self.start_s('n3')
          print(f'   evacuation with the controller stopped: begun after {seconds:.2f} s')
          self.assertLess(seconds, 6, 'slurm.timeout')
          for i in range(2):
            self.lab.settled(f'hg-{i}', job.ranks)
          wait_for(lambda: self.lab.log('n3')[-300:], 30, lambda: said('Slurm does not answer'))
          time.sleep(10)   # tries again, and says no more of it
          self.assertEqual(said('Slurm does not answer'), 1)
        finally:
          self.to_controller('CONT')
      with self.subTest('once it answers it is told, and that is said'):
        self.says('n3', 'DRAIN', self.ours('n3', 'a fan is loud'), 60)
        self.assertEqual(said('Slurm answers again'), 1)
        self.restore('n3')
        self.says('n3', 'IDLE', '')

  # ---- jobs

  def batch(self, job, *options, lines='', nodes=3):
    """Submits `lifeboat run` of a job; returns Slurm's number of it."""
    script = self.lab.write(f'{job.name}/batch.sh', f'#!/bin/sh\n{lines}\nexec lifeboat run {job.file}\n', 0o755)
    out = self.slurm('sbatch', '--parsable', f'-N{nodes}', '-o', job.output, *options, script)
    return out.strip().split(';')[0]

  def running(self, job):
    def text():
      return job.text() if os.path.exists(job.output) else 'no output'
    wait_for(lambda: f'{job.ranks} ranks of {job.name}: {self.lab.ranks()} {text()} {self.slurm("squeue")}', 60,
             lambda: sum(self.lab.ranks().values()) >= job.ranks)
    return {f'{job.name}-{i}': self.lab.settled(f'{job.name}-{i}', job.ranks) for i in range(2)}

  def test_batch(self):
    self.lab.dirty = True   # a node dies
    job = operator_test.Job(self.lab, 'ba', n=4000, nodes=[], until_stop=True)
    number = self.batch(job, '-w', 'n1,n2,n3', lines='#SBATCH --no-kill')
    with self.subTest('it runs on the nodes of its Slurm job'):
      places = self.running(job)
      self.assertEqual(places, {'ba-0': 'n1', 'ba-1': 'n2'})
      self.assertNotIn('warning', job.text())
    with self.subTest('a node is expected to fail: Slurm says FAIL, its rank moves within the Slurm job'):
      self.dimm.corrected(ERRORS)
      self.says('n2', 'FAIL', self.ours('n2', '.*corrected memory errors.*'))
      wait_for(lambda: f'n2 being left: {self.lab.containers()}', 60, lambda: self.lab.where('ba-1') == ['n3'])
      self.assertEqual(self.lab.settled('ba-1', job.ranks), 'n3')
      self.assertEqual(self.job_state(number), 'RUNNING')
    with self.subTest('the node dies: the job goes on'):
      self.lab.must('kill', 'n2')
      self.says('n2', 'FAIL', self.ours('n2', '.*corrected memory errors.*'))
      # As Slurm does itself after SlurmdTimeout: it takes the node from the job.
      self.slurm('scontrol', 'update', 'nodename=n2', 'state=down', 'reason=power cut')
      wait_for(lambda: self.slurm('scontrol', 'show', 'job', number), 60,
               lambda: re.search(r'^ *NodeList=n\[1,3\]$', self.slurm('scontrol', 'show', 'job', number), re.M), 0.3)
      self.assertEqual(self.lab.settled('ba-1', job.ranks), 'n3')
      self.assertEqual(self.job_state(number), 'RUNNING')
    with self.subTest('and ends right'):
      job.stop()
      wait_for(lambda: self.slurm('scontrol', 'show', 'job', number) + job.text(), 120,
               lambda: self.job_state(number) == 'COMPLETED', 0.3)
      self.assertIn('ExitCode=0:0', self.slurm('scontrol', 'show', 'job', number))
      self.assertEqual({verdict for _, verdict in hpl_residuals(job.whole_text())}, {'PASSED'}, job.text())

  def test_jobs(self):
    job = operator_test.Job(self.lab, 'jb', n=2000, nodes=[], until_stop=True)
    number = self.batch(job, nodes=2)
    with self.subTest('without --no-kill a job is warned, with what to write'):
      places = self.running(job)
      self.assertIn(f'warning: Slurm ends job {number} with the first of its nodes', job.whole_text())
      self.assertIn("write '#SBATCH --no-kill' into its script", job.whole_text())
    with self.subTest('no node but those of its Slurm job is a target'):
      first = places['jb-0']
      self.degrade(first)
      other = places['jb-1']
      wait_for(lambda: self.lab.containers(), 60, lambda: self.lab.where('jb-0') == [other])
      self.degrade(other)
      def evacuation():
        return str(self.lab.api('GET', f'/v1/nodes/{other}')[1]['evacuation'])
      wait_for(evacuation, 60, lambda: "outside its job's allocation" in evacuation())
      self.assertEqual({self.lab.where(f'jb-{i}')[0] for i in range(2)}, {other})
      self.restore(other)
      self.restore(first)
    with self.subTest('a compute node may ask for jobs in its own Slurm jobs only'):
      stranger = next(name for name in operator_test.COMPUTE if name not in places.values())
      bad = operator_test.Job(self.lab, 'no', n=500, nodes=[])
      code, out, error = self.lab.run('exec', stranger, 'lifeboat', 'run', bad.file)
      self.assertEqual(code, 1, out + error)
      self.assertIn('use the command on a head node', error)
      code, out, error = self.lab.run('exec', stranger, 'env', f'SLURM_JOB_ID={number}', 'lifeboat', 'run', bad.file)
      self.assertEqual(code, 1, out + error)
      self.assertIn(f'node {stranger} is none of Slurm job {number}', error)
      elsewhere = operator_test.Job(self.lab, 'no', n=500, nodes=[stranger])
      out = self.slurm('env', f'SLURM_JOB_ID={number}', 'lifeboat', 'run', elsewhere.file, check=False)
      self.assertIn(f'node {stranger}, named by the job, is none of Slurm job {number}', out)
    with self.subTest('scancel ends it'):
      self.slurm('scancel', number)
      wait_for(lambda: self.lab.containers(), 60, lambda: not self.lab.containers())
    with self.subTest('a Slurm job that ended without a word takes its containers along'):
      number = self.batch(job, '--no-kill', nodes=2)
      self.running(job)
      self.slurm('pkill', '-KILL', '-f', '^lifeboat run', node=self.slurm(
        'squeue', '-h', '-j', number, '-o', '%B').strip())
      wait_for(lambda: self.lab.containers(), 60, lambda: not self.lab.containers())
      status, answer = self.lab.api('GET', '/v1/jobs/jb')
      self.assertEqual((status, answer['error']), (200, f'its Slurm job {number} has ended'))
    with self.subTest('a step over several nodes without -k is warned'):
      out = self.slurm('env', 'SLURM_JOB_ID=99999', 'SLURM_STEP_NUM_NODES=3', 'lifeboat', 'run', job.file, check=False)
      self.assertIn('call lifeboat run without srun, or with srun -k', out)
      self.assertIn('Slurm job 99999 is not running', out)
    self.check_nothing_left()


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules['__main__']))
