#!/usr/bin/python3
"""Nodes that are not well: what leaves them, what does not come to them, and what operators see.

  tests/lab/evacuation_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

Times are short here: a node is down after 4 s of silence, and on probation for 20 s when it is back.
"""
import datetime
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from demolib.memory_errors import Dimm
from lablib.base import read
from operator_test import Group, wait_for

operator_test.COMPUTE = ('n1', 'n2', 'n3', 'n4')
operator_test.LAB_YAML = operator_test.FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - name: n1
    memory: 8GiB
    slots: 8
    lifeboat: {sources: {root: WORK/hardware, edac: {interval: 200ms}}}
  - {name: n2, memory: 8GiB, slots: 8}
  - {name: n3, memory: 8GiB, slots: 8}
  - {name: n4, memory: 800MiB, slots: 2, lifeboat: {evacuation: {bring_back: true}}}
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 5s, restore: 8s, commit: 3s, queue: 20s}
  health: {heartbeat_lost: 4s, probation: 20s}
'''


class Evacuations(Group):

  def setUp(self):
    super().setUp()
    for name in operator_test.COMPUTE:
      if self.node(name)['state'] != 'up':
        self.restore(name)

  def node(self, name, asked='head'):
    status, answer = self.lab.api('GET', f'/v1/nodes/{name}', node=asked)
    self.assertEqual(status, 200, answer)
    return answer

  def degrade(self, name, reason='a fan is loud'):
    code, out, error = self.lab.lifeboat('node', 'degrade', name, '--reason', reason)
    self.assertEqual(code, 0, out + error)
    self.assertIn(f'{name} is degraded (operator: {reason})', out)

  def restore(self, name):
    code, out, error = self.lab.lifeboat('node', 'restore', name)
    self.assertEqual((code, out), (0, f'{name} is up\n'), error)

  def in_state(self, name, state, cause, seconds=10):
    return wait_for(lambda: f'{name} {state} ({cause}): {self.node(name)}', seconds,
                    lambda: (lambda n: n if (n.get('state'), n.get('cause')) == (state, cause) else None)
                    (self.node(name)))

  def emptied(self, name):
    wait_for(lambda: f'{name} empty: {self.node(name)}', 120,
             lambda: self.node(name).get('evacuation', {}).get('phase') == 'empty')
    self.assertEqual(self.node(name)['containers'], [])

  def places(self, job, containers):
    """{container: node} once each runs in exactly one place."""
    return {f'{job.name}-{i}': self.lab.settled(f'{job.name}-{i}', job.ranks)
            for i in range(containers)}

  def leaving(self, name, wanted):
    """A migration from that node, running or over, for which `wanted` holds, as soon as there is one."""
    def migrations():
      return self.lab.api('GET', '/v1/migrations', node=name)[1]['migrations']
    return wait_for(lambda: f'the migration among {migrations()}', 60,
                    lambda: next(filter(wanted, migrations()), None), pause=0.005)

  def test_degrade(self):
    with self.job('dg', n=3000, containers=4, nodes=['n1', 'n2']) as job:
      with self.subTest('a degraded node empties itself; it says why and since when'):
        self.degrade('n1')
        self.emptied('n1')
        places = self.places(job, 4)
        self.assertNotIn('n1', places.values())
        code, out, error = self.lab.lifeboat('nodes')
        self.assertEqual(code, 0, error)
        line = next(line for line in out.splitlines() if line.startswith('n1 '))
        self.assertIn('degraded  operator: a fan is loud', line)
        self.assertIn(time.strftime('%Y-%m-%d', time.gmtime()), line)
        self.assertIn('n1: empty; 2 moved, 0 left', out)
      with self.subTest('a node says the same whoever asks'):
        self.assertEqual(self.node('n1', asked='n3')['reason'], 'a fan is loud')
      with self.subTest('nothing is moved to it'):
        self.refused('node n1 is degraded since', 'migrate', 'dg-2', '--to', 'n1')
        self.assertEqual(self.places(job, 4), places)
      with self.subTest('no job is placed on it'):
        other = operator_test.Job(self.lab, 'no', n=500, tests=1, nodes=['n1'])
        self.refused('node n1 is degraded since', 'run', other.file)
      with self.subTest('what is said twice is not new'):
        since = self.node('n1')['since']
        self.degrade('n1', 'two fans are loud')
        self.assertEqual(self.node('n1')['since'], since)
      with self.subTest('restored, it takes containers again'):
        self.restore('n1')
        self.moved('dg-2', 'n1')
        self.refused('node n1 is up already', 'node', 'restore', 'n1')
      with self.subTest('names and reasons that make no sense'):
        self.refused("no node 'n9'", 'node', 'degrade', 'n9', '--reason', 'x')
        self.refused('a reason is one line', 'node', 'degrade', 'n1', '--reason', 'a\nb')
        self.refused('--reason is required', 'node', 'degrade', 'n1', code=2)

  def test_predicted(self):
    """Through the real source: what a kernel's EDAC driver shows below /sys."""
    dimm = Dimm(os.path.join(self.lab.work, 'hardware'))
    self.lab.must('daemon', 'n1', 'restart')
    wait_for('its first look', 5, lambda: 'such source of events source=edac' not in
             self.lab.log('n1').rpartition('ready node=')[2])
    with self.job('pr', n=3000, containers=3, nodes=['n1', 'n2']) as job:
      with self.subTest('a few corrected errors, and garbage, degrade nobody'):
        dimm.corrected(3)
        dimm.say('not a number')
        wait_for('the source being blamed', 5, lambda: 'does not work source=edac' in self.lab.log('n1'))
        dimm.corrected(4)
        time.sleep(0.5)
        self.assertEqual(self.node('n1')['state'], 'up')
      with self.subTest('more than ten in a day do, with their evidence; the containers leave'):
        dimm.corrected(14)
        node = self.in_state('n1', 'degraded', 'predictor', 5)
        self.assertIn('corrected memory errors', node['reason'])
        self.assertGreater(node['risk'], 0.3)
        self.assertTrue(any(' edac mc0/' in line for line in node['evidence']), node)
        self.emptied('n1')
        self.assertNotIn('n1', self.places(job, 3).values())
      with self.subTest('a daemon that starts again knows it; counters that begin anew are no errors'):
        dimm.corrected(0)
        self.lab.must('daemon', 'n1', 'restart')
        node = self.in_state('n1', 'degraded', 'predictor', 5)
        self.assertTrue(node['evidence'])
      with self.subTest('an operator knows better'):
        self.restore('n1')
        time.sleep(1)
        self.assertEqual(self.node('n1')['state'], 'up')

  def test_bring_back(self):
    with self.job('bb', n=3000, containers=2, nodes=['n4', 'n1']) as job:
      with self.subTest('a node that is well again takes back what left it, if it is told to'):
        self.degrade('n4')
        self.emptied('n4')
        self.restore('n4')
        wait_for('its return', 60, lambda: self.lab.where('bb-0') == ['n4'])
        self.assertEqual(self.places(job, 2), {'bb-0': 'n4', 'bb-1': 'n1'})

  def test_by_hand(self):
    with self.job('bh', n=3000, containers=3, nodes=['n1']) as job:
      with self.subTest('a plan moves nothing'):
        code, out, error = self.lab.lifeboat('evacuate', 'n1', '--dry-run')
        self.assertEqual(code, 0, out + error)
        for i in range(3):
          self.assertIn(f'bh-{i}', out)
        self.assertEqual(set(self.places(job, 3).values()), {'n1'})
        self.assertEqual(self.node('n1')['state'], 'up')
      with self.subTest('a window that is far away: it takes nothing, and waits'):
        code, out, error = self.lab.lifeboat('evacuate', 'n1', '--within', '2h')
        self.assertEqual(code, 0, out + error)
        wait_for('its start being known', 5,
                 lambda: self.node('n1')['evacuation']['phase'] == 'waiting')
        self.assertEqual(set(self.places(job, 3).values()), {'n1'})
        self.assertIn(', starts at ', self.lab.lifeboat('nodes', 'n1')[1])
        self.restore('n1')
      with self.subTest('times that make no sense'):
        self.refused('expected a time of day', 'evacuate', 'n1', '--by', 'noon', code=2)
        self.refused('expected a duration', 'evacuate', 'n1', '--within', '30', code=2)
      with self.subTest('at once, followed to its end'):
        code, out, error = self.lab.lifeboat('evacuate', 'n1')
        self.assertEqual(code, 0, out + error)
        self.assertIn('n1 is empty', out)
        self.assertIn('bh-0 runs on ', out)
        self.assertNotIn('n1', self.places(job, 3).values())
        self.assertEqual(self.node('n1')['cause'], 'maintenance')

  def test_no_room(self):
    with self.job('nr', n=3000, containers=3, nodes=['n1']) as job:
      for name in ('n2', 'n3'):
        self.degrade(name)
      with self.subTest('two find room; the third stays, and that is said'):
        code, out, error = self.lab.lifeboat('evacuate', 'n1')
        self.assertEqual(code, 1, out + error)
        self.assertIn('cannot leave: no place on 1 healthy node', error)
        self.assertIn('n2 (degraded), n3 (degraded)', error)
        wait_for('it among the nodes', 5,
                 lambda: ' cannot leave (' in self.lab.lifeboat('nodes')[1], 0.3)
        self.assertEqual(sorted(self.places(job, 3).values()), ['n1', 'n4', 'n4'])
      with self.subTest('it leaves as soon as there is room'):
        self.restore('n2')
        self.emptied('n1')
        self.assertEqual(sorted(self.places(job, 3).values()), ['n2', 'n4', 'n4'])

  def test_receiving(self):
    with self.job('rc', n=4000, containers=2, nodes=['n1', 'n2']) as job:
      with self.subTest('an arrival is turned away before its commit'):
        migration = self.lab.start_migration('rc-0', 'n3', mode='pre-copy', bytes_per_s=2_000_000)
        self.in_phase(migration, ('pre-copy',))
        self.degrade('n3')
        report = self.over(migration)
        self.assertEqual(report['outcome'], 'aborted', report)
        self.assertIn('node n3 is degraded since', report['error'])
        self.runs_on('rc-0', 'n1', job)
        self.restore('n3')
      with self.subTest('an evacuation whose target turns degraded goes elsewhere'):
        # The command answers once this is on disk; the containers leave before.
        with ThreadPoolExecutor() as commands:
          degraded = commands.submit(self.degrade, 'n1')
          target = self.leaving('n1', lambda m: m['container'] == 'rc-0' and m['outcome'] != 'aborted')['target']
          self.degrade(target)
        degraded.result()
        self.emptied('n1')
        self.emptied(target)
        places = self.places(job, 2)
        self.assertNotIn('n1', places.values())
        self.assertNotIn(target, places.values())

  def test_daemon_killed(self):
    with self.job('dk', n=1500, containers=4, nodes=['n1']) as job:
      with self.subTest('a daemon that dies in the middle of it goes on when it is back'):
        reason = 'its fan has died'
        states = self.lab.inside('n1', '/var/lib/lifeboat/node-states.jsonl')
        with ThreadPoolExecutor() as commands:   # this one may get no answer
          commands.submit(self.lab.lifeboat, 'node', 'degrade', 'n1', '--reason', reason)
          wait_for('its state on disk', 30, lambda: reason in read(states), pause=0.005)
          self.leaving('n1', lambda m: m['outcome'] == 'running' and
                       m['phase'] in ('pre-copy', 'freeze', 'dump', 'restore'))
          self.lab.crash('n1')
        self.lab.must('daemon', 'n1', 'start')
        # Where a daemon takes seconds to start, the head has counted it as lost meanwhile.
        wait_for(lambda: f'what was said of n1: {self.node("n1")}', 30,
                 lambda: ('operator', reason) in [(one['cause'], one['reason'])
                                                  for one in self.node('n1').get('reasons', ())])
        self.emptied('n1')
        self.assertNotIn('n1', self.places(job, 4).values())

  def test_power(self):
    with self.job('pw', n=4000, containers=2, nodes=['n1', 'n2']) as job:
      self.degrade('n1')
      self.emptied('n1')
      with self.subTest('a node without power is down, by the word of the head'):
        self.lab.must('kill', 'n1')
        killed = time.time()
        node = self.in_state('n1', 'down', 'heartbeat', 30)
        self.assertIn('silent for 4 s', node['reason'])
        since = datetime.datetime.fromisoformat(node['since'].replace('Z', '+00:00')).timestamp()
        self.assertLess(since - killed, 12)
        code, out, error = self.lab.run('exec', 'n3', 'lifeboat', 'nodes')
        self.assertEqual(code, 0, error)
        line = next(line for line in out.splitlines() if line.startswith('n1 '))
        self.assertIn('down', line)
        self.assertNotIn('n1', self.places(job, 2).values())
      with self.subTest('back, it is what it was, and on probation'):
        self.lab.must('boot', 'n1')
        node = wait_for('n1 back', 15, lambda: (lambda n: n if len(n.get('reasons', ())) == 2 else
                                                None)(self.node('n1')))
        self.assertEqual([reason['cause'] for reason in node['reasons']], ['operator', 'probation'])
      with self.subTest('a daemon that was only stopped: probation, which ends by itself'):
        self.lab.must('daemon', 'n3', 'stop')
        self.in_state('n3', 'down', 'heartbeat', 15)
        self.lab.must('daemon', 'n3', 'start')
        self.in_state('n3', 'degraded', 'probation', 15)
        self.refused('node n3 is degraded since', 'migrate', 'pw-1', '--to', 'n3')
        self.in_state('n3', 'up', '', 40)
      with self.subTest('a node that boots after the head was never lost: no probation'):
        self.lab.must('daemon', 'head', 'stop')
        self.lab.must('daemon', 'n3', 'stop')
        self.lab.must('daemon', 'head', 'start')
        self.assertIn('not heard of yet, for 4 s', self.in_state('n3', 'down', 'heartbeat', 15)['reason'])
        self.lab.must('daemon', 'head', 'restart')  # as who sets a cluster up may do
        self.lab.must('daemon', 'n3', 'start')
        self.in_state('n3', 'up', '', 20)
        last = [line for line in self.lab.log('head').splitlines() if 'node=n3' in line][-1]
        self.assertIn('node is up node=n3 state=up change=heartbeat-first', last)
      self.restore('n1')


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules[__name__]))
