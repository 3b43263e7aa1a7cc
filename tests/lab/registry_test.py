#!/usr/bin/python3
"""One live copy, whatever fails: the registry, nodes and the network around the commit.

  tests/lab/registry_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

The registry is on a node of its own, `keeper`: `lifeboat run` needs the head's daemon.
"""
import json
import os
import random
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from operator_test import Group, Job, after, log_exists, once, record_says, wait_for

LEASE = 3
operator_test.COMPUTE = ('n1', 'n2', 'n3')
operator_test.LAB_YAML = operator_test.FABRICS_YAML + f'''
nodes:
  - {{name: head, role: head}}
  - {{name: n1, memory: 8GiB, slots: 8}}
  - {{name: n2, memory: 8GiB, slots: 8}}
  - {{name: n3, memory: 8GiB, slots: 8}}
  - {{name: keeper, memory: 64MiB, slots: 0}}
lifeboat:
  timeouts: {{connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 3s}}
  registry: {{node: keeper, timeout: 1s, lease: {LEASE}s}}
  health: {{probation: 0s}}
'''
FABRICS = ('1g', '10g', '100m')
TICKS = 'n=0; while :; do n=$((n + 1)); echo tick $n; sleep 0.1; done'


class Registry(Group):

  def setUp(self):
    """Groups cut nodes off and kill them: the next one begins when the head counts all as up again."""
    super().setUp()
    wait_for(lambda: f'all nodes to be up: {self.states()}', 60,
             lambda: all(self.states()[node] == 'up' for node in operator_test.COMPUTE))

  def states(self):
    return {node['name']: node.get('state') for node in self.lab.api('GET', '/v1/nodes')[1]['nodes']}

  def report(self, migration, node):
    return self.lab.api('GET', f'/v1/migrations/{migration}', node=node)[1]

  def journaled(self, migration, node):
    """The phases of a migration that the node's disk has."""
    with open(self.lab.inside(node, '/var/lib/lifeboat/migrations.jsonl'), encoding='utf-8') as file:
      return [json.loads(line)['phase'] for line in file if f'"{migration}"' in line and line.endswith('\n')]

  def begin(self, container, target, source):
    status, answer = self.lab.api('POST', f'/v1/containers/{container}/migrate', {'to': target}, source)
    self.assertEqual(status, 200, answer)
    return answer['id']

  def links(self, node, state):
    for fabric in FABRICS:
      self.lab.must('link', node, state, '--fabric', fabric)

  def ended_where_it_says(self, migration, container, source, target, job, seconds=40):
    node = self.lab.settled(container, job.ranks, seconds)
    report = wait_for(lambda: f'the end of {self.report(migration, source)}', seconds, lambda: next(
      (r for r in [self.report(migration, source)] if r.get('outcome') in ('committed', 'aborted')), None))
    self.assertEqual(node, target if report['outcome'] == 'committed' else source, report)
    self.assertIn(report['outcome'], [event['phase'] for event in report['history']], report)
    return report['outcome']

  def test_killed(self):
    moments = [once('when the target gets the right to commit', record_says('source', 'in-doubt')),
               once('when the target\'s place is made', record_says('target', 'arriving')),
               *(after(random.uniform(0, 0.6)) for _ in range(4))]
    with self.job('reg') as job:
      for what, wait in moments:
        with self.subTest(f'the registry\'s daemon is killed {what}'):
          source = self.lab.settled('reg-1', job.ranks)
          target = self.elsewhere(source)
          migration = self.begin('reg-1', target, source)
          wait(self.lab, migration, 'reg-1', source, target)
          self.lab.crash('keeper')
          time.sleep(random.uniform(0, 1.5))
          self.lab.must('daemon', 'keeper', 'start')
          self.ended_where_it_says(migration, 'reg-1', source, target, job)
      with self.subTest('without a registry nothing begins, and says why'):
        source = self.lab.settled('reg-1', job.ranks)
        self.lab.crash('keeper')
        migration = self.begin('reg-1', self.elsewhere(source), source)
        report = wait_for('the refusal', 10, lambda: next(
          (r for r in [self.report(migration, source)] if r['outcome'] == 'aborted'), None))
        self.assertIn('no migration can begin without the registry', report['error'])
        self.assertEqual([(node, frozen) for node, _, frozen in self.lab.copies('reg-1')], [(source, False)])
        self.lab.must('daemon', 'keeper', 'start')
      with self.subTest('with it, it moves again'):
        wait_for('a migration', 60, lambda: self.lab.lifeboat('migrate', 'reg-1', '--to',
                                                              self.elsewhere(source))[0] == 0, pause=0.5)
      with self.subTest('migrations are remembered over a restart of the daemon'):
        before = self.lab.api('GET', '/v1/migrations', node=source)[1]['migrations']
        self.assertGreaterEqual(len(before), 2)
        wait_for('the disk to have their ends', 10, lambda: all(
          m['outcome'] in self.journaled(m['id'], source) for m in before))
        self.lab.crash(source)
        self.lab.must('daemon', source, 'start')
        again = self.lab.api('GET', '/v1/migrations', node=source)[1]['migrations']
        self.assertEqual([(m['id'], m['outcome'], m['error']) for m in again],
                         [(m['id'], m['outcome'], m['error']) for m in before])

  def test_stands_still(self):
    with self.subTest('the registry\'s daemon stands still for longer than a lease: no node counts as gone'):
      before = {node: len(self.lab.log(node)) for node in operator_test.COMPUTE}
      keeper = self.lab.daemon('keeper').pid
      os.kill(keeper, signal.SIGSTOP)
      time.sleep(LEASE + 2)
      os.kill(keeper, signal.SIGCONT)
      wait_for('its word', 20, lambda: 'this daemon stood still' in self.lab.log('keeper'))
      time.sleep(LEASE)  # all have asked it again
      for node, start in before.items():
        self.assertNotIn('counted this node as gone', self.lab.log(node)[start:])
    self.check_nothing_left()

  def test_cut(self):
    moments = [once('when the target gets the right to commit', record_says('source', 'in-doubt')),
               *(after(random.uniform(0.1, 0.6)) for _ in range(2))]
    with self.job('cut') as job:
      for end in ('source', 'target'):
        for what, wait in moments:
          with self.subTest(f'the {end} is cut off {what}'):
            source = self.lab.settled('cut-1', job.ranks)
            target = self.elsewhere(source)
            migration = self.begin('cut-1', target, source)
            wait(self.lab, migration, 'cut-1', source, target)
            cut = source if end == 'source' else target
            self.links(cut, 'down')
            try:
              self.one_runs_on('cut-1')
            finally:
              self.links(cut, 'up')
            self.ended_where_it_says(migration, 'cut-1', source, target, job)

  def one_runs_on(self, container):
    """Never two run, and one does once whoever is to decide has decided."""
    def running():
      return [copy for copy in self.lab.copies(container) if not copy[2]]
    decided = time.monotonic() + 2 * LEASE + 3
    while True:
      found = running()
      if len(found) > 1:   # it looks at one node after the other: it may have moved meanwhile
        found = running()
      self.assertLessEqual(len(found), 1, found)
      now = time.monotonic()
      if now > decided and found:
        return
      self.assertLess(now, decided + 30, 'exactly one runs on after the lease')
      time.sleep(0.05)

  def test_power(self):
    """Of a container that depends on no other: the end of the rest of a job is not the point here."""
    with self.subTest('the source loses its power after Staged: the target commits, the container lives'):
      job = self.lab.job = Job(self.lab, 'lone', containers=1, ranks=1, nodes=('n1',),
                               command=['/bin/sh', '-c', TICKS]).start()
      wait_for('the container', 60, lambda: self.lab.where('lone-0') == ['n1'])
      time.sleep(1)
      migration = self.caught('lone-0', lambda: True)
      self.lab.must('kill', 'n1')
      wait_for(lambda: f'the container to run on n2: {self.lab.copies("lone-0")}', 60,
               lambda: [(node, frozen) for node, _, frozen in self.lab.copies('lone-0')] == [('n2', False)])
      before = len(job.text())
      wait_for('its output', 15, lambda: len(job.text()) != before or 'tick' in job.text()[-20:])
      self.assertEqual(wait_for('n2 to have it', 10, lambda: self.lab.where('lone-0')), ['n2'])
      wait_for('n2 to tell its end', 30, lambda: self.report(migration, 'n2')['outcome'] == 'committed')
      staged, committed = self.report(migration, 'n2')['history'][-2:]
      self.assertEqual((staged['phase'], committed['phase']), ('staged', 'committed'))
      took = (committed['t'] - staged['t']) / 1e6
      print(f'  the target took over after {took:.1f} s (lease {LEASE} s)')
      self.assertLess(took, LEASE + 8)
    with self.subTest('and no second one when its node is back'):
      self.lab.must('boot', 'n1')
      time.sleep(LEASE)
      self.assertEqual([node for node, _, _ in self.lab.copies('lone-0')], ['n2'])
      wait_for('the node that is back to know how its migration has ended', 10,
               lambda: self.report(migration, 'n1').get('outcome') == 'committed')
      self.moved('lone-0', 'n1')
    with self.subTest('the same, and the target\'s daemon is restarted before it has committed'):
      self.caught('lone-0', lambda: True)
      self.lab.must('kill', 'n1')
      self.lab.must('daemon', 'n2', 'stop')
      self.assertEqual([node for node, _, _ in self.lab.copies('lone-0')], ['n2'])
      self.lab.must('daemon', 'n2', 'start')
      wait_for(lambda: f'the container to run on n2: {self.lab.copies("lone-0")}', 60,
               lambda: [(node, frozen) for node, _, frozen in self.lab.copies('lone-0')] == [('n2', False)])
      wait_for('n2 to have it', 10, lambda: self.lab.where('lone-0') == ['n2'])
      self.lab.must('boot', 'n1')
      wait_for('n1 to be up', 30, lambda: self.states()['n1'] == 'up')
      self.moved('lone-0', 'n1')
    with self.subTest('a node dies with a container: the job\'s owner is told which, and where'):
      self.lab.must('kill', 'n1')
      self.assertNotEqual(job.wait(60), 0)
      self.assertIn('container lone-0 is on no node that answers', job.text())
      self.assertIn('it was last on node n1', job.text())
      self.lab.must('boot', 'n1')
    with self.subTest('its name can be used again'):
      self.lab.job = again = Job(self.lab, 'lone', containers=1, ranks=1, nodes=('n3',),
                                 command=['/bin/sh', '-c', 'exit 0']).start()
      self.assertEqual(again.wait(30), 0, again.text())
    self.lab.job = None
    self.check_nothing_left()

  def caught(self, container, and_then):
    """Moves it from n1 to n2 until n1's daemon was stopped between Staged and Commit, and `and_then` is true; that
    migration."""
    for _ in range(30):
      migration = self.begin(container, 'n2', 'n1')
      if self.stopped_when_staged(container, migration, 'n1', 'n2') and and_then():
        return migration
      self.over(migration)
      if self.lab.where(container) != ['n1']:
        self.moved(container, 'n1')
    return self.fail('not caught in thirty migrations')

  def stopped_when_staged(self, container, migration, source, target):
    """Stops the source's daemon while the target, which has the right by then, restores, and waits until it has
    staged. False: not caught, or after the source has sent Commit."""
    pid = self.lab.daemon(source).pid
    once('', log_exists('restore.log', 'target'))[1](self.lab, migration, container, source, target)
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    while 'staged' not in self.journaled(migration, target) and time.monotonic() < end:
      time.sleep(0.005)
    if 'staged' in self.journaled(migration, target) and 'commit' not in self.journaled(migration, source):
      return True
    os.kill(pid, signal.SIGCONT)
    return False

  def test_renounced(self):
    """What a target has renounced, and its source runs, it does not take after a restart."""
    with self.subTest('a target that has renounced is killed before it has removed its copy'):
      self.lab.job = Job(self.lab, 'back', containers=1, ranks=1, nodes=('n1',),
                         command=['/bin/sh', '-c', TICKS]).start()
      wait_for('the container', 60, lambda: self.lab.where('back-0') == ['n1'])
      time.sleep(1)
      migration = self.caught('back-0', self.renounced_and_killed)
      source = self.lab.daemon('n1').pid
      os.kill(source, signal.SIGSTOP)  # so that its lease ends, and it withdraws nothing
      self.lab.must('daemon', 'n2', 'start')
      os.kill(self.lab.daemon('keeper').pid, signal.SIGCONT)
      wait_for(lambda: f'the other copy to be gone: {self.lab.copies("back-0")}', 30,
               lambda: [node for node, _, _ in self.lab.copies('back-0')] == ['n1'])
      time.sleep(2 * LEASE)
      self.assertEqual([(node, frozen) for node, _, frozen in self.lab.copies('back-0')], [('n1', False)])
      os.kill(source, signal.SIGCONT)
    with self.subTest('and the container can be moved there afterwards'):
      wait_for('n1 to tell its end', 30, lambda: self.report(migration, 'n1').get('outcome') == 'aborted')
      wait_for('a migration', 60, lambda: self.lab.lifeboat('migrate', 'back-0', '--to', 'n2')[0] == 0, pause=0.5)
      self.assertEqual(self.lab.where('back-0'), ['n2'])
    self.assertEqual(self.lab.lifeboat('kill', 'back')[0], 0)
    self.lab.job.wait(60)
    self.lab.job = None
    self.check_nothing_left()

  def renounced_and_killed(self):
    """With a registry that does not answer: starts the stopped daemon of the source, n1, again, which asks the
    target, n2, and kills the target's daemon once the source has its container back. Whether the target's copy is
    there still; if not, all run again."""
    keeper = self.lab.daemon('keeper').pid
    os.kill(keeper, signal.SIGSTOP)
    self.lab.crash('n1')
    self.lab.must('daemon', 'n1', 'start')
    wait_for('the source to run it again', 60, lambda: ('n1', False) in [
      (node, frozen) for node, _, frozen in self.lab.copies('back-0')])
    self.lab.crash('n2')
    if 'n2' in [node for node, _, _ in self.lab.copies('back-0')]:
      return True
    os.kill(keeper, signal.SIGCONT)
    self.lab.must('daemon', 'n2', 'start')
    return False

  def test_fence(self):
    with self.subTest('a node that was cut off ends what was given up meanwhile'):
      job = self.lab.job = Job(self.lab, 'gone', containers=1, ranks=1, nodes=('n1',),
                               command=['/bin/sh', '-c', TICKS]).start()
      wait_for('the container', 60, lambda: self.lab.where('gone-0') == ['n1'])
      self.links('n1', 'down')
      self.assertNotEqual(job.wait(90), 0)  # lost to the head, which ends the job
      self.assertEqual([node for node, _, _ in self.lab.copies('gone-0')], ['n1'], 'nobody could end it yet')
      self.links('n1', 'up')
      wait_for(lambda: f'its end: {self.lab.copies("gone-0")}', LEASE + 15,
               lambda: not self.lab.copies('gone-0'))
      # By its daemon, or by itself: its launcher hears that mpiexec is gone, and may hear it first.
      wait_for(lambda: f'a word of it: {self.lab.log("n1")}', 15, lambda: re.search(
        'is not this node\'s any more|container ended container=gone-0', self.lab.log('n1')))
    self.lab.job = None
    self.check_nothing_left()

  def test_away_at_the_end(self):
    for again in ('first', 'second'):
      with self.subTest(f'the registry is away while a job ends: the {again} of its name runs'):
        self.lab.job = None
        wait_for(lambda: f'the container: {self.lab.job.text()}', 60, self.away_runs)
        self.lab.crash('keeper')
        self.assertEqual(self.lab.lifeboat('kill', 'away')[0], 0)
        self.assertNotEqual(self.lab.job.wait(90), 0)
        self.lab.must('daemon', 'keeper', 'start')
        record = lambda: self.lab.api('GET', '/v1/jobs/away')[1]
        wait_for(lambda: f'the end of {record()}', 20, lambda: record()['state'] == 'ended')
    self.lab.job = None
    self.check_nothing_left()

  def away_runs(self):
    """Starts it, too, as often as it is refused: a node that was without the registry ends what it has there with
    its next keep-alive."""
    if self.lab.job is None or self.lab.job.process.poll() is not None:
      self.lab.job = Job(self.lab, 'away', containers=1, ranks=1, nodes=('n1',),
                         command=['/bin/sh', '-c', TICKS]).start()
    return self.lab.where('away-0') == ['n1']

  def test_resolve(self):
    with self.job('res') as job:
      with self.subTest('what is decided is not to be decided'):
        source = self.lab.settled('res-1', job.ranks)
        target = self.elsewhere(source)
        migration = self.lab.start_migration('res-1', target)
        self.over(migration)
        self.refused('is not in doubt on any node that answers', 'resolve', migration, '--source', '--yes')
        code, out, error = self.lab.lifeboat('resolve', migration)
        self.assertEqual(code, 0, error)
        self.assertIn(f'container res-1 belongs to node {target}', out)
        self.assertIn(f'migration {migration} to {target} is committed', out)
      with self.subTest('a person decides when neither registry nor target answers'):
        for _ in range(20):
          source = self.lab.settled('res-1', job.ranks)
          target = self.elsewhere(source)
          migration = self.begin('res-1', target, source)
          if self.in_doubt(migration, source, target):
            break
          self.lab.must('daemon', 'keeper', 'start')
          self.lab.must('daemon', target, 'start')
          self.ended_where_it_says(migration, 'res-1', source, target, job)
        else:
          self.fail('not in doubt in twenty migrations')
        time.sleep(LEASE)
        self.assertEqual([frozen for node, _, frozen in self.lab.copies('res-1') if node == source], [True])
        self.assertEqual(self.lab.containers()['res-1'][0]['state'], 'in-doubt')
        self.assertEqual(self.report(migration, source)['outcome'], 'in-doubt')
        code, out, error = self.lab.run('exec', source, 'lifeboat', 'resolve', migration)
        self.assertEqual(code, 0, error)
        self.assertIn('in doubt: frozen, not decided', out)
        self.assertIn('does not say', out)
        code, _, error = self.lab.run('exec', source, 'lifeboat', 'resolve', migration, '--source')
        self.assertEqual(code, 1)
        self.assertIn('--yes', error)
        code, out, error = self.lab.run('exec', source, 'lifeboat', 'resolve', migration, '--source', '--yes')
        self.assertEqual(code, 0, error)
        wait_for('it to run', 10, lambda: self.lab.containers()['res-1'][0]['state'] == 'running')
        self.lab.must('daemon', 'keeper', 'start')
        self.lab.must('daemon', target, 'start')
        self.assertEqual(self.lab.settled('res-1', job.ranks), source)

  def in_doubt(self, migration, source, target):
    """Kills the registry's and the target's daemons once the right is given; whether it is in doubt then."""
    once('', record_says('source', 'in-doubt'))[1](self.lab, migration, 'res-1', source, target)
    self.lab.crash('keeper', target)
    time.sleep(0.5)
    return self.report(migration, source).get('outcome') == 'in-doubt'


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules['__main__']))
