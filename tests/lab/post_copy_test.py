#!/usr/bin/python3
"""Post-copy and hybrid: a container that runs at the target while its source still has pages of it.

  tests/lab/post_copy_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

What breaks while pages are missing pauses the container and loses nothing, as long as both ends live.
"""
import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from lablib import cgroup as cgroups
from operator_test import Group, wait_for

operator_test.COMPUTE = ('n1', 'n2', 'n3')
operator_test.LAB_YAML = operator_test.THREE_NODES_YAML + '''
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 20s, commit: 3s}
  health: {probation: 0s}
'''


class PostCopy(Group):

  def draining(self, container, to):
    """A migration over the slow fabric that has just been committed; most pages are missing."""
    migration = self.lab.start_migration(container, to, '100m', mode='post-copy')
    self.in_phase(migration, ('draining',), 30)
    return migration

  def drained(self, migration, seconds=90):
    """Waits until the source is not needed any more."""
    report = wait_for(lambda: f'the end of {self.lab.migration(migration)}', seconds, lambda: (
      report if (report := self.lab.migration(migration)).get('total_ms', 0) > 0 else None))
    self.assertEqual(report['outcome'], 'committed', report)
    return report

  def test_moves(self):
    with self.job('mv', n=4000) as job:
      for mode, target in (('post-copy', 'n3'), ('hybrid', 'n1'), ('post-copy', 'n2')):
        with self.subTest(f'{mode} to {target}, and back at once'):
          code, out, error = self.lab.lifeboat('migrate', 'mv-0', '--to', target, '--mode', mode)
          self.assertEqual(code, 0, out + error)
          self.runs_on('mv-0', target, job)
      with self.subTest('both at once'):
        reports = [self.drained(m) for m in (
          self.lab.start_migration('mv-0', 'n3', mode='post-copy'),
          self.lab.start_migration('mv-1', 'n1', mode='hybrid'))]
        self.assertGreater(reports[0]['memory']['pages_later'], 1000)
        self.assertLess(reports[1]['memory']['pages_later'], reports[1]['memory']['pages'])

      with self.subTest('sent on before its memory is in place: the record has the new migration to its end'):
        first = self.lab.start_migration('mv-0', 'n1', '1g', mode='post-copy')
        self.in_phase(first, ('draining',), 30)
        second = self.lab.start_migration('mv-0', 'n2', '100m')
        self.drained(first)
        self.in_phase(second, ('pre-copy',), 30)
        record = json.loads(self.lab.must('exec', 'n1', 'cat', '/run/lifeboat/containers/mv-0/record.json'))
        self.assertEqual((record['state'], record['migration']), ('leaving', second))
        self.drained(second)
        self.runs_on('mv-0', 'n2', job)

  def test_link(self):
    with self.job('ln', n=4000) as job:
      migration = self.draining('ln-0', 'n3')
      with self.subTest('the fabric is cut while pages are missing: paused, then over another one'):
        self.lab.must('link', 'n3', 'down', '--fabric', '100m')
        report = self.drained(migration)
        self.lab.must('link', 'n3', 'up', '--fabric', '100m')
        self.assertGreater(report['drain_ms'], 500)
        self.runs_on('ln-0', 'n3', job)

  def test_source_daemon(self):
    with self.job('sd', n=4000) as job:
      self.draining('sd-0', 'n3')
      with self.subTest('the source\'s daemon is killed while pages are missing'):
        self.lab.crash('n1')
        time.sleep(2)
        self.assertEqual([c[0] for c in self.lab.copies('sd-0')], ['n1', 'n3'])
      with self.subTest('the next one goes on serving them'):
        self.lab.must('daemon', 'n1', 'start')
        self.runs_on('sd-0', 'n3', job)
        self.assertIn('draining', self.lab.log('n1'))

  def test_target_daemon(self):
    with self.job('td', n=4000) as job:
      self.draining('td-0', 'n3')
      with self.subTest('the target\'s daemon is killed while pages are missing'):
        self.lab.crash('n3')
        time.sleep(1)
        self.lab.must('daemon', 'n3', 'start')
        self.runs_on('td-0', 'n3', job)
      with self.subTest('both daemons'):
        self.draining('td-0', 'n2')
        self.lab.crash('n3', 'n2')
        time.sleep(0.5)
        self.lab.must('daemon', 'n2', 'start')
        self.lab.must('daemon', 'n3', 'start')
        self.runs_on('td-0', 'n2', job)

  def test_lost(self):
    job = self.lab.job = operator_test.Job(self.lab, 'lo', n=5000, tests=14).start()
    migration = self.draining('lo-0', 'n3')
    with self.subTest('the frozen tasks at the source are killed: the copy is ended, with a reason'):
      cgroup, = cgroups.trees(f'{self.lab.state().containers_of("n1")}/lo-0')
      cgroups.write(f'{cgroup}/cgroup.kill', '1')
      report = self.drained(migration, 30)
      self.assertIn('the container was ended', report['error'], report)
      self.assertNotEqual(job.wait(60), 0, job.text())
      wait_for(lambda: f'no copy: {self.lab.copies("lo-0")}', 20,
               lambda: not self.lab.copies('lo-0'))
    self.check_nothing_left()


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules['__main__']))
