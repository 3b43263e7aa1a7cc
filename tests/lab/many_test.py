#!/usr/bin/python3
"""Many migrations at once, and what operators see of them, against one lab with real jobs.

  tests/lab/many_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

The limits are small here, so that migrations wait: two leave a node at once, two arrive.
"""
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from operator_test import Group, wait_for

operator_test.COMPUTE = ('n1', 'n2', 'n3', 'one', 'two', 'three', 'slow')
# A wire that any machine fills, whatever else it does.
THIN = '  - {name: 20m, subnet: 10.4.0.0/16, rate: 20Mbit, burst: 128kb}\n'
# The last three of the compute nodes but one hold one container each.
operator_test.LAB_YAML = operator_test.FABRICS_YAML.replace('default_fabric', THIN + 'default_fabric') + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB, slots: 8}
  - {name: n2, memory: 8GiB, slots: 8}
  - {name: n3, memory: 8GiB, slots: 8}
  - {name: one, memory: 400MiB, slots: 1}
  - {name: two, memory: 400MiB, slots: 1}
  - {name: three, memory: 400MiB, slots: 1}
  - {name: slow, memory: 8GiB, slots: 8, lifeboat: {paths: {criu: WORK/criu-slow}}}
lifeboat:
  timeouts: {connect: 5s, request: 5s, dump: 20s, idle: 5s, restore: 8s, commit: 3s, queue: 20s}
  limits: {migrations_per_node: 2, arrivals_per_node: 2}
  health: {probation: 0s}
'''


class Many(Group):

  def start(self, container, to, fabric='10g', **more):
    return self.lab.start_migration(container, to, fabric, **{'mode': 'pre-copy', **more})

  def slow(self, container, to):
    """A migration that stays in its rounds until it is cancelled."""
    migration = self.start(container, to, bytes_per_s=400_000)
    self.in_phase(migration, ('pre-copy',))
    return migration

  def all_moved(self, migrations, seconds=60):
    reports = [self.over(migration, seconds) for migration in migrations]
    for report in reports:
      self.assertEqual(report['outcome'], 'committed', report)
    return reports

  def cancelled(self, migration, phases, seconds=10):
    """Cancels it; it must be over soon."""
    status, answer = self.lab.api('POST', f'/v1/migrations/{migration}/cancel', {})
    self.assertEqual(status, 200, answer)
    report = self.over(migration, seconds)
    self.assertEqual((report['outcome'], report['error']),
                     ('aborted', 'cancelled by an operator'), report)
    self.assertIn(report['phase'], phases)
    return report

  def exchanged(self, moves, mode='pre-copy'):
    """{container: (from, to)}, at once: a full node of which nothing leaves is asked again for a second only."""
    def start(container, node, to):
      body = {'to': to, 'fabric': '10g', 'mode': mode}
      status, answer = self.lab.api('POST', f'/v1/containers/{container}/migrate', body, node)
      self.assertEqual(status, 200, answer)
      return answer['id']
    with ThreadPoolExecutor() as commands:
      started = [commands.submit(start, container, *ends) for container, ends in moves.items()]
    self.all_moved([one.result() for one in started])

  def test_exchange(self):
    with self.job('ex', containers=3, nodes=['one', 'two', 'three']) as job:
      with self.subTest('two full nodes exchange their containers'):
        self.exchanged({'ex-0': ('one', 'two'), 'ex-1': ('two', 'one')})
        self.runs_on('ex-0', 'two', job)
        self.runs_on('ex-1', 'one', job)
      with self.subTest('three full nodes, in a ring, by stop-and-copy'):
        self.exchanged({'ex-0': ('two', 'three'), 'ex-2': ('three', 'one'), 'ex-1': ('one', 'two')}, 'stop-and-copy')
        for container, node in (('ex-0', 'three'), ('ex-2', 'one'), ('ex-1', 'two')):
          self.runs_on(container, node, job)
      with self.subTest('a full node of which nothing leaves is full'):
        said = self.refused('node two has no room: all 1 slots are taken', 'migrate', 'ex-0', '--to',
                            'two', '--mode', 'pre-copy')
        self.assertIn('failed in: connect', said)

  def test_again(self):
    with self.job('ag') as job:
      with self.subTest('a container is moved again at once, six times'):
        for to in ('n2', 'n3', 'n1', 'n3', 'n2', 'n1'):
          if to == self.lab.where('ag-0')[0]:
            continue
          report, = self.all_moved([self.start('ag-0', to)])
          self.assertEqual(report['warnings'], [], report)
        self.runs_on('ag-0', 'n1', job)

  def test_eight(self):
    with self.job('m', n=2000, containers=8, nodes=['n1']) as job:
      names = [f'm-{i}' for i in range(8)]
      with self.subTest('eight in one command: two at a time, in order, the others visible'):
        said = []
        command = threading.Thread(target=lambda: said.append(self.lab.lifeboat(
          'migrate', *names, '--to', 'n2', '--mode', 'pre-copy', '--json', seconds=300)))
        command.start()
        def queued():
          _, out, _ = self.lab.lifeboat('top', '--json')
          found = [m for m in json.loads(out)['migrations'] if m['phase'] == 'queued']
          return found if len(found) >= 3 else None
        waiting = wait_for('migrations in the queue', 15, queued)
        self.assertEqual([m['queue_position'] for m in waiting],
                         list(range(waiting[0]['queue_position'],
                                    waiting[0]['queue_position'] + len(waiting))), waiting)
        for one in waiting:
          self.assertGreater(one['eta_s'], 0, one)
          self.assertGreater(one['remaining_bytes'], 0, one)
        command.join()
        code, out, error = said[0]
        self.assertEqual(code, 0, out + error)
        reports = json.loads(out)['migrations']
        self.assertEqual([(r['container'], r['outcome']) for r in reports],
                         [(name, 'committed') for name in names])
        starts = [datetime.fromisoformat(r['started_at'].replace('Z', '+00:00')).timestamp()
                  + r['queued_ms'] / 1000 for r in reports]
        for before, after in zip(starts, starts[1:]):
          self.assertGreater(after, before - 0.05, 'they start in order')
        self.assertEqual(self.lab.where('m-7'), ['n2'])
      with self.subTest('a node is emptied; the planner finds the targets'):
        code, out, error = self.lab.lifeboat('migrate', '--all-from', 'n2', '--mode', 'pre-copy',
                                             seconds=300)
        self.assertEqual(code, 0, out + error)
        self.assertIn('8 of 8 moved', out)
        places = [node for name in names for node in self.lab.where(name)]
        self.assertNotIn('n2', places)
        self.assertGreaterEqual(len(set(places)), 2, places)
        self.assertEqual(sum(self.lab.ranks().values()), job.ranks)
      with self.subTest('an empty node: nothing to do'):
        code, out, error = self.lab.lifeboat('migrate', '--all-from', 'n2')
        self.assertEqual((code, out), (0, '0 of 0 moved\n'), error)

  def test_cancel(self):
    with self.job('ca', n=4000, containers=4, nodes=['n1']) as job:
      with self.subTest('in the queue; the next one moves up'):
        first, second = self.slow('ca-0', 'n2'), self.slow('ca-1', 'n3')
        third, fourth = self.start('ca-2', 'n2'), self.start('ca-3', 'n3')
        for migration, position in ((third, 1), (fourth, 2)):
          wait_for(f'{migration} at {position}', 5,
                   lambda: self.lab.migration(migration)['queue_position'] == position)
        self.refused('container ca-2 is leaving', 'migrate', 'ca-2', '--to', 'n3')
        self.cancelled(third, ('queued',))
        wait_for('the next one first', 10, lambda: self.lab.migration(fourth)['queue_position'] == 1)
      with self.subTest('in pre-copy; the progress is told'):
        def measured():
          found = self.lab.migration(second)
          return found if found['rate_bytes_per_s'] else None
        report = wait_for('a rate', 10, measured)
        self.assertGreater(report['remaining_bytes'], 0, report)
        self.assertGreater(report['rate_bytes_per_s'], 120_000, report)
        self.assertLess(report['rate_bytes_per_s'], 1_200_000, report)
        self.assertGreater(report['eta_s'], 1, report)
        self.cancelled(first, ('pre-copy',))
        self.all_moved([fourth])  # its turn came
        self.cancelled(second, ('pre-copy',))
      with self.subTest('while the target does not answer (connect)'):
        daemon = self.lab.daemon('n2')
        daemon.kill(signal.SIGSTOP)
        try:
          # At the source, which has the container: the others would ask n2, too.
          status, answer = self.lab.api('POST', '/v1/containers/ca-0/migrate', {'to': 'n2', 'mode': 'pre-copy'}, 'n1')
          self.assertEqual(status, 200, answer)
          self.in_phase(answer['id'], ('connect',))
          self.cancelled(answer['id'], ('connect', 'pre-copy'), 15)
        finally:
          daemon.kill(signal.SIGCONT)
      with self.subTest('in dump and transfer; and while it waits for its turn to freeze'):
        first = self.start('ca-0', 'n2', '20m', mode='stop-and-copy')   # 36 MiB: a quarter of a minute
        self.in_phase(first, ('dump',))
        second = self.start('ca-1', 'n2', '20m', mode='stop-and-copy')
        self.in_phase(second, ('prepare',))
        time.sleep(0.3)
        self.cancelled(second, ('prepare',))
        self.cancelled(first, ('dump', 'transfer'))
        self.runs_on('ca-0', 'n1', job)
      with self.subTest('in restore'):
        still = self.lab.write('still', '7')
        try:
          migration = self.start('ca-0', 'slow', mode='stop-and-copy')
          self.in_phase(migration, ('restore',))
          self.cancelled(migration, ('restore',))
        finally:
          os.remove(still)
        self.runs_on('ca-0', 'n1', job)
      with self.subTest('several in one command, of which one is refused'):
        code, out, error = self.lab.lifeboat('migrate', 'ca-0', 'ca-9', 'ca-1', '--to', 'n2')
        self.assertEqual(code, 1, out + error)
        self.assertIn('2 of 3 moved', out)
        self.assertIn("ca-9: no container 'ca-9' on any node", error)
        self.assertEqual(self.lab.where('ca-0'), ['n2'])

  def test_wire(self):
    with self.job('wi', n=6000, containers=2, nodes=['n1']) as job:
      with self.subTest('two over the same fabric get the same'):
        both = [self.start(name, 'n2', '20m') for name in ('wi-0', 'wi-1')]
        for migration in both:
          self.in_phase(migration, ('pre-copy',))
        def sent():
          return [self.lab.migration(migration)['bytes_sent'] for migration in both]
        # Over seconds: what is told of a rate is that of the last moment, in which one may have had no processor.
        time.sleep(1)
        began, before = time.monotonic(), sent()
        time.sleep(5)
        seconds, after = time.monotonic() - began, sent()
        rates = [(b - a) / seconds for a, b in zip(before, after)]
        self.assertGreater(min(rates), 200_000, rates)
        self.assertLess(max(rates) / min(rates), 1.5, rates)
        for migration in both:
          self.cancelled(migration, ('pre-copy',))
        self.runs_on('wi-0', 'n1', job)


if __name__ == '__main__':
  sys.exit(operator_test.main(sys.modules[__name__]))
