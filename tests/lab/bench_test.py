#!/usr/bin/python3
"""scripts/bench: its arithmetic, that the memory program notices a wrong byte, and small real runs.

What is measured is not judged here, only that it is measured: each system moves a program whose
memory and messages are right at the end, and the JSON has what its description promises.
The last line is "N passed, N failed, N skipped". Exit status: 0 passed, 1 failed, 77 skipped.

  tests/lab/bench_test.py [TEST...]       all tests, or those named (such as migrate)

  LIFEBOAT_TEST_BUILD   where lifeboatd and lifeboat are (default: build/dev/bin)
"""
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'scripts'))

from benchlib import convergence, figures, harness, memory, migrate, programs, stalls, tracking

BUILD = os.path.abspath(os.environ.get('LIFEBOAT_TEST_BUILD')
                        or os.path.join(ROOT, 'build', 'dev', 'bin'))
NAME = f'benchtest{os.getpid()}'
OUTPUT = '''memory ready
gap rank 0 2.0 ms at 100.500 pause 1.0 ms at 100.400 pages 1000 by 101.000
gap rank 1 3.0 ms at 100.500 pause 1.5 ms at 100.400 pages 10 by 101.000
gap rank 0 80.0 ms at 101.500 pause 60.0 ms at 101.480 pages 2000 by 102.000
gap rank 1 90.5 ms at 101.500 pause 2.0 ms at 101.400 pages 20 by 102.000
gap rank 0 2.0 ms at 102.500 pause 1.0 ms at 102.400 pages 4000 by 103.000
'''


def bench(command, *options, seconds=420):
  """Runs `scripts/bench` and returns its JSON."""
  with tempfile.NamedTemporaryFile('r', suffix='.json') as out:
    done = subprocess.run([f'{ROOT}/scripts/bench', command, '--name', NAME, '--build', BUILD, '--json',
                           out.name, *options], text=True, capture_output=True, check=False,
                          timeout=seconds)
    if done.returncode != 0:
      raise AssertionError(f'bench {command}: status {done.returncode}\n{done.stdout}{done.stderr}')
    return json.load(out)


def wait_for(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    if time.monotonic() > end:
      raise AssertionError(f'not within {seconds} s')
    time.sleep(0.01)


class Arithmetic(unittest.TestCase):
  def test_silence(self):
    self.assertEqual(memory.silence(OUTPUT, 101.2, 102),
                     {'paused_ms': 60.0, 'pause_ended_at': 101.48, 'gap_ms': 80.0, 'peer_gap_ms': 90.5})
    self.assertEqual(memory.silence(OUTPUT, 100, 101)['paused_ms'], 1.0)
    self.assertEqual(memory.silence(OUTPUT, 90, 91)['gap_ms'], 0.0)

  def test_counted_anew(self):
    """A report that was made before does not count, whatever it tells; each rank's must be a new one."""
    line = 'gap rank {} 1.0 ms at 1.000 pause 1.0 ms at 1.000 pages 0 by {:.3f}\n'
    asked = []
    def text():
      asked.append(time.time())
      new = [line.format(rank, asked[0] + 100) for rank in range(len(asked) - 1)]
      return line.format(0, asked[0] - 100) + line.format(1, asked[0] - 100) + ''.join(new)
    memory.wait_counted_anew(text)
    self.assertEqual(len(asked), 3)

  def test_rate(self):
    self.assertAlmostEqual(memory.pages_per_s(OUTPUT, 101, 102), 1000)
    self.assertAlmostEqual(memory.pages_per_s(OUTPUT, 101.5, 102.5), 1500)
    self.assertIsNone(memory.pages_per_s(OUTPUT, 100, 102), 'not covered by reports')

  def test_floors(self):
    row = {'frozen_bytes': 12.5e6, 'bytes': 125e6, 'downtime_ms': 149, 'total_ms': 1101}
    self.assertEqual(migrate.floors(row, 1e9), {'downtime_floor_ms': 150.0, 'total_floor_ms': 1100.0,
                                                'downtime_met': True, 'total_met': False})
    self.assertEqual(migrate.floors(row, 1e10)['total_floor_ms'], 125.0)

  def test_growth(self):
    def case(size, downtime, frozen):
      return {'system': 'lifeboat', 'mode': 'pre-copy', 'fabric': 'f', 'hot_percent': 0, 'rss_mb': size,
              'downtime_ms': {'median': downtime}, 'frozen_bytes': {'median': frozen}}
    found = migrate.growth([case(1000, 30, 0), case(3000, 70, 1.25e6)], {'f': 1e9})
    self.assertEqual(found, [{'mode': 'pre-copy', 'fabric': 'f', 'hot_percent': 0, 'ms_per_gb': 15.0}])
    self.assertEqual(migrate.growth([case(1000, 30, 0)], {'f': 1e9}), [])

  def test_stalls(self):
    seen = [(10.0, 10.2), (11.0, 11.05)]
    self.assertEqual([stalls.longest_ms(seen, *span) for span in ((9, 12), (10.1, 10.9), (10.3, 10.9), (11.01, 11.02))],
                     [200.0, 200.0, 0.0, 50.0])
    # Of the second processor's stall only what the first one's shares.
    both = [seen, [(9.9, 10.1), (10.15, 10.16), (11.2, 11.3)]]
    self.assertEqual([stalls.stolen_ms(both, *span) for span in ((9, 12), (10.05, 10.155), (10.3, 12))],
                     [110.0, 55.0, 0.0])
    self.assertEqual(stalls.stolen_ms([seen, []], 9, 12), 0.0)
    rows = [{'machine_stall_ms': ms} for ms in (0.0, 7.1, None, 384.3)]
    self.assertIn('up to 384 ms in 2 of 4', stalls.tell(rows))
    self.assertEqual(stalls.tell(rows[:1]), '')

  def test_stalls_of_a_stopped_watcher(self):
    with stalls.Stalls() as watching:
      wait_for(lambda: all(os.path.exists(path) for path in watching.paths.values()))
      began = time.time()
      for child in watching.children:   # stands for a processor that is taken away
        child.send_signal(signal.SIGSTOP)
      time.sleep(0.3)
      for child in watching.children:
        child.send_signal(signal.SIGCONT)
      wait_for(lambda: watching.longest_ms(began, time.time()) >= 290)
      watching.children[0].kill()
      watching.children[0].wait()
      self.assertIsNone(watching.longest_ms(began, time.time()))

  def test_spread(self):
    self.assertEqual(figures.spread([3, None, 1, 2]), {'median': 2, 'min': 1, 'max': 3, 'count': 3})
    self.assertIsNone(figures.spread([None]))

  def test_convergence(self):
    def row(way, pre_copy, left, best):
      return {'kernel': 'k', 'way': way, 'downtime_ms': 10, 'pre_copy_ms': pre_copy, 'left_ms': left,
              'best_left_ms': best, 'rounds': 3, 'pattern': 'a', 'slowdown_percent': None}
    late = convergence.summarize([row('law', 4000, 300, 300), row('never', 10000, 250, 150)])[0]
    self.assertEqual((late['part_of_never'], late['third_met']), (0.4, False))
    self.assertEqual((late['times_best'], late['best_met']), (2.0, False))
    good = convergence.summarize([row('law', 3000, 60, 60), row('never', 10000, 9, 7)])[0]
    self.assertTrue(good['third_met'])
    self.assertEqual(good['times_best'], 1.2, 'below the budget no downtime is better than another')

  def test_noise(self):
    self.assertIn(': met', tracking.judge([0.5, 0.4, 0.6, 0.5]))
    self.assertIn('not met', tracking.judge([9, 8, 10]))
    self.assertIn('not to be told', tracking.judge([-3, 5, 2, 0]))
    self.assertIn('cannot tell', tracking.judge([0, 1]))

  def test_hpl_row(self):
    row = {'alone': {'time_s': 50, 'residual': 'r'}, 'watched': {'time_s': 51, 'residual': 'r', 'first_writes': 100000}}
    self.assertEqual(tracking.hpl_row(row), {'alone_s': 50, 'residuals_equal': True, 'watched_s': 51, 'tracking_percent': 2,
                                             'watched_first_writes': 100000, 'watched_faults_percent': 0.22})

  def test_beside_row(self):
    self.assertEqual(tracking.beside_row(31, 30, 1000000), {
      'tracked_s': 31, 'other_s': 30, 'first_writes': 1000000, 'tracking_percent': 3.333, 'faults_percent': 3.667,
      'us_per_first_write': 1.0})


class Program(unittest.TestCase):
  """mpi/bench/memory.c as a TCP pair on the loopback."""

  def run_pair(self, meanwhile=lambda pids: None, hot='50'):
    program = programs.build(harness.setup_environment(), 'memory')
    with tempfile.TemporaryDirectory() as work:
      def start(rank):
        return subprocess.Popen([program, '--tcp', work, '--interface', 'lo', '--rank', str(rank),
                                 '--hot', hot, '--dirty', '2000', '--log', f'{work}/rank', '4', '100',
                                 f'{work}/stop'])
      children = [start(rank) for rank in (1, 0)]
      try:
        memory.wait_alive(lambda: memory.output(work), time.time())
        meanwhile([child.pid for child in children])
        with open(f'{work}/stop', 'w', encoding='ascii'):
          pass
        codes = [child.wait(60) for child in children]
      finally:
        for child in children:
          child.kill()
      return codes, memory.output(work)

  def test_right(self):
    for hot in ('0', '50', '100'):
      codes, text = self.run_pair(hot=hot)
      self.assertEqual((codes, text.count('memory ok')), ([0, 0], 1), text)

  def test_wrong_byte(self):
    def spoil(pids):
      """Changes one bit of the last page of rank 0's memory, which is never rewritten."""
      def word(index):
        x = index * 0x9e3779b97f4a7c15 % 2**64
        x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9 % 2**64
        return x ^ x >> 29
      first = 4_000_000 // 4096 * 512
      begin = struct.pack('<2Q', word(first), word(first + 1))
      # The kernel may have made one mapping of it and what is beside it.
      with open(f'/proc/{pids[1]}/maps', encoding='ascii') as maps:
        areas = [[int(x, 16) for x in line.split()[0].split('-')] for line in maps if 'rw-p' in line]
      with open(f'/proc/{pids[1]}/mem', 'r+b', buffering=0) as file:
        found = []
        for start, end in areas:
          if end - start >= 4_000_000:
            file.seek(start)
            at = file.read(end - start).find(begin)
            found += [start + at] if at >= 0 else []
        self.assertEqual(len(found), 1)
        file.seek(found[0] + 8)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    codes, text = self.run_pair(spoil)
    self.assertEqual(codes, [1, 1], text)
    self.assertIn('memory WRONG', text)
    self.assertRegex(text, r'rank 0: \d+ wrong words, 0 wrong messages')

  def test_pause_is_seen(self):
    def pause(pids):
      os.kill(pids[1], signal.SIGSTOP)
      time.sleep(0.7)
      os.kill(pids[1], signal.SIGCONT)
      time.sleep(1.5)
    _, text = self.run_pair(pause)
    seen = memory.silence(text, 0, time.time())
    for name in ('paused_ms', 'gap_ms', 'peer_gap_ms'):
      self.assertGreater(seen[name], 650, text)


class Runs(unittest.TestCase):
  def test_migrate(self):
    out = bench('migrate', '--sizes', '32', '--hot', '0,10', '--fabrics', '10g', '--repetitions', '1')
    self.assertEqual(len(out['rows']), 6)
    self.assertEqual({row['system'] for row in out['rows']}, {'lifeboat', 'runc', 'criu-lazy'})
    for row in out['rows']:
      self.assertGreater(row['downtime_ms'], 1, row)
      # Its own count of it, if it has one: what the process sees also has what this machine made it wait for.
      self.assertGreater(row['total_ms'], row.get('reported_downtime_ms') or row['downtime_ms'] / 2, row)
      self.assertGreaterEqual(row['bytes'], 32e6, row)
      self.assertGreaterEqual(row['wire_bytes'], row['bytes'] * 0.9, row)
      self.assertGreaterEqual(row['machine_stall_ms'], 0, row)
      live = row['system'] != 'runc'
      (self.assertLess if live else self.assertEqual)(row['frozen_bytes'], row['bytes'], row)
    self.assertEqual(len(out['summary']), 6)
    self.assertRegex(out['environment']['criu'], r'\d')

  def test_shared_memory(self):
    """Most of it is there before the freeze, and nothing of it is wrong."""
    for kind in ('file', 'anonymous'):
      out = bench('migrate', '--systems', 'lifeboat', '--sizes', '64', '--hot', '10', '--dirty-rate', '500', '--shared',
                  kind, '--fabrics', '10g', '--repetitions', '1')
      row, = out['rows']
      self.assertEqual(row['shared_memory'], kind)
      self.assertGreaterEqual(row['bytes'], 64e6, row)
      self.assertLess(row['frozen_bytes'], 16e6, row)
      images = row['report']['images']
      self.assertLess(images['bytes'], 32e6, 'CRIU does not touch it')
      self.assertGreaterEqual(row['report']['layer']['bytes_tracked'], 64e6, row)

  def test_ranks(self):
    out = bench('ranks', '--ranks', '3', '--size', '8', '--fabrics', '10g', '--repetitions', '1')
    self.assertEqual(len(out['rows']), 1)
    self.assertGreater(out['rows'][0]['downtime_ms'], 1)

  def test_together(self):
    out = bench('together', '--containers', '3', '--size', '8', '--repetitions', '1')
    self.assertEqual({row['way'] for row in out['rows']}, {'at once', 'in turn'})
    self.assertGreater(out['summary']['ratios']['total_ms'], 0)

  def test_tracking(self):
    out = bench('tracking', '--size', '48', '--ways', 'watched', '--hpl-size', '0', '--repetitions', '1')
    self.assertEqual([row['kind'] for row in out['rows']], ['watched', 'writer'])
    for row in out['rows']:
      self.assertGreater(row['before_pages_per_s'], 1000)
      self.assertGreater(row['first_writes'], 1000)

  def test_usage(self):
    done = subprocess.run([f'{ROOT}/scripts/bench', 'migrate', '--mpi'], text=True,
                          capture_output=True, check=False, timeout=60)
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, re.escape('the baselines have no MPI launcher'))


def skip(why):
  print(f'skipped: {why}\n0 passed, 0 failed, 1 skipped')
  sys.exit(77)


def main():
  if os.geteuid() != 0:
    skip('namespaces, cgroups and CRIU need root')
  if not os.access(f'{BUILD}/lifeboatd', os.X_OK):
    skip(f'{BUILD}/lifeboatd has not been built')
  if subprocess.run([f'{ROOT}/scripts/setup', '--print-env'], capture_output=True, check=False,
                    timeout=60).returncode != 0:
    skip('scripts/setup has not been run')
  suite = unittest.TestSuite()
  for group in unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__']):
    suite.addTests(t for t in group if len(sys.argv) == 1 or t.id().split('.')[-1][5:] in sys.argv[1:])
  result = unittest.TextTestRunner(verbosity=2).run(suite)
  failed = len(result.failures) + len(result.errors)
  print(f'{result.testsRun - failed} passed, {failed} failed, 0 skipped')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
