#!/usr/bin/python3
"""lifeboat-campaign: its plan, its checks and its arithmetic; then real campaigns: small ones that are spoilt on
purpose or killed, and `smoke` whole.
The last line is "N passed, N failed, N skipped". Exit status: 0 passed, 1 failed, 77 skipped.

  tests/lab/campaign_test.py [TEST...]       all tests, or those named (such as smoke)

  LIFEBOAT_TEST_BUILD   where lifeboatd and lifeboat are (default: build/dev/bin)
"""
import argparse
import collections
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'scripts'))

from benchlib import harness, programs
from benchlib.harness import Failure
from campaignlib import container_state, plots, report, statistics_of, tables
from campaignlib.application import Application, agree
from campaignlib.spec import CONFIGS, Spec, load_yaml

BUILD = os.path.abspath(os.environ.get('LIFEBOAT_TEST_BUILD')
                        or os.path.join(ROOT, 'build', 'dev', 'bin'))
NAME = f'campaign{os.getpid()}'
PROGRAM = os.path.join(ROOT, 'scripts', 'lifeboat-campaign')
ONE = {'repetitions': 1, 'start_s': 1, 'lab': os.path.join(ROOT, 'configs', 'lab.yaml'),
       'parameters': {'memory': {'mb': 16}}, 'cells': [{'application': 'memory', 'cycles': 1}]}


def hpl_output(residual='0.0025', verdict='PASSED'):
  return (f'WR11C2R4         500    64     1     2               0.02              4.1e+00\n'
          f'||Ax-b||_oo/(eps*(||A||_oo*||x||_oo+||b||_oo)*N)=        {residual} ...... {verdict}\n'
          '              1 tests completed and passed residual checks,\n'
          '              0 tests completed and failed residual checks,\n'
          '              0 tests skipped because of illegal input values.\n')


def shipped(name):
  path = os.path.join(CONFIGS, 'applications', f'{name}.yaml')
  return Application(path, load_yaml(path), {})


class Directory(unittest.TestCase):
  def setUp(self):
    self.temporary = tempfile.TemporaryDirectory()
    self.addCleanup(self.temporary.cleanup)
    self.directory = self.temporary.name

  def write(self, name, content):
    path = os.path.join(self.directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
      file.write(content if isinstance(content, str) else json.dumps(content))
    return path

  def campaign(self, *words, code=0, seconds=600):
    done = subprocess.run([PROGRAM, *words], text=True, capture_output=True, check=False, timeout=seconds)
    self.assertEqual(done.returncode, code, done.stdout + done.stderr)
    return done.stdout + done.stderr

  def make(self, spec, code=0):
    """Runs a campaign; its summary."""
    out = os.path.join(self.directory, 'out')
    self.campaign('run', self.write('spec.yaml', spec), '--out', out, '--name', NAME, '--build', BUILD, code=code)
    with open(os.path.join(out, 'summary.json'), encoding='utf-8') as file:
      return json.load(file)


class Plan(Directory):
  def test_matrix(self):
    """purdue: the study's 2 x 10 x 4 x 2 cells, as many runs left alone as blocks, migrations alone."""
    spec = Spec(os.path.join(CONFIGS, 'purdue.yaml'))
    plan = spec.plan()
    self.assertEqual(len(plan), 2 * 10 * 4 * 2 + 2 * 10 + 8)
    cells = collections.Counter((p['application'], p['containers'], p['at_once'], p['fabric']) for p in plan)
    self.assertEqual(set(cells.values()), {1})
    self.assertEqual(plan, Spec(os.path.join(CONFIGS, 'purdue.yaml')).plan())

  def test_blocks(self):
    spec = Spec(os.path.join(CONFIGS, 'purdue.yaml'))
    spec.repetitions = 3
    plan = spec.plan()
    size = len(plan) // 3
    kinds = [[(p['application'], p['containers'], p['at_once'], p['fabric']) for p in plan[i:i + size]]
             for i in range(0, len(plan), size)]
    self.assertEqual(len(kinds), 3)
    self.assertEqual(*map(sorted, kinds[:2]))
    self.assertNotEqual(kinds[0], kinds[1])
    # Those left alone are not all at one end.
    alone = [i for i, kind in enumerate(kinds[0]) if kind[2] == 0]
    self.assertLess(alone[0], size / 3)
    self.assertGreater(alone[-1], 2 * size / 3)

  def test_mistakes(self):
    for change, message in (({'cels': []}, 'cels: unknown key'), ({'repetitions': 0}, 'repetitions: expected'),
                            ({'cells': [{'application': 'hpl', 'at_onc': 1}]}, 'cells[0].at_onc: unknown key'),
                            ({'cells': [{'application': 'hpx'}]}, "no application 'hpx'"),
                            ({'parameters': {'memory': {'mbx': 1}}}, "no parameter 'mbx'"),
                            ({'parameters': {'memory': {'mb': {3: 1}}}}, 'parameters.mb: none for 2 containers'),
                            ({'parameters': {'hpl': {'size': 1}}}, 'no cell has this application')):
      with self.assertRaises(Failure) as raised:
        Spec(self.write('bad.yaml', {**ONE, **change}))
      self.assertIn(message, str(raised.exception))

  def test_own_application(self):
    self.write('applications/mine.yaml', {'command': ['true'], 'outputs': ['x'], 'parameters': {'n': 3}})
    spec = Spec(self.write('spec.yaml', {**ONE, 'parameters': {'mine': {'n': 4}},
                                         'cells': [{'application': 'mine'}]}))
    self.assertEqual(spec.applications['mine'].parameters, {'n': 4})

  def test_variants(self):
    spec = Spec(self.write('spec.yaml', {**ONE, 'variants': {'busy': {'application': 'memory', 'hot': 100}},
                                         'cells': [{'application': ['busy', 'memory'], 'at_once': [0, 1]}]}))
    self.assertEqual((spec.applications['busy'].name, spec.applications['busy'].parameters['hot'],
                      spec.applications['busy'].parameters['mb']), ('busy', 100, 16))
    # An application that runs until it is told to stop has no time of its own: it is not left alone.
    self.assertEqual([(c['application'], c['at_once']) for c in spec.cells], [('busy', 1), ('memory', 1)])

  def test_left_alone_once(self):
    spec = Spec(self.write('spec.yaml', {**ONE, 'parameters': {},
                                         'cells': [{'application': 'hpl', 'at_once': [0, 1],
                                                    'fabric': ['1g', '10g']}]}))
    self.assertEqual([c['at_once'] for c in spec.cells], [0, 1, 1])

  def test_shipped_specs(self):
    for name in ('smoke', 'purdue', 'convergence', 'workloads'):
      self.assertTrue(Spec(os.path.join(CONFIGS, f'{name}.yaml')).plan())

  def test_dry_run(self):
    text = self.campaign('run', 'purdue', '--dry-run')
    self.assertEqual(len(text.splitlines()), 189)
    self.assertIn('188 runs of 188 cells in 1 blocks', text.splitlines()[-1])


class Results(Directory):
  def test_hpl(self):
    app = shipped('hpl')
    found = app.read(hpl_output(), self.directory)
    self.assertEqual((found['time_s'], found['wrong']), (0.02, []))
    self.assertEqual(app.differences(found['results'], found['results']), [])
    other = app.read(hpl_output('0.0026'), self.directory)['results']
    self.assertEqual(app.differences(other, found['results']), ['residuals: 0.0026 instead of 0.0025'])
    self.assertTrue(app.read(hpl_output(verdict='FAILED'), self.directory)['wrong'])
    self.assertTrue(app.read('', self.directory)['wrong'])

  def test_output_files(self):
    app = Application('a.yaml', {'command': ['true'], 'outputs': ['x']}, {})
    self.assertEqual(app.read('', self.directory)['wrong'], ['output file x: there is none'])
    self.write('x', 'one')
    one = app.read('', self.directory)['results']
    self.write('x', 'onf')
    self.assertEqual(len(app.differences(app.read('', self.directory)['results'], one)), 1)

  def test_series(self):
    found = shipped('pingpong').read('latency rank 0 23.4 us bandwidth 812.3 MB/s at 1700000000.500\n'
                                     'gap rank 0 312.5 ms at 1700000000.125\npingpong ok\n', self.directory)
    self.assertEqual({s['name']: s['points'] for s in found['series']},
                     {'latency': [(1700000000.5, 23.4)], 'bandwidth': [(1700000000.5, 812.3)],
                      'longest round trip': [(1700000000.125, 312.5)]})
    self.assertEqual((found['stall_s'], found['wrong']), (0.3125, []))
    with self.assertRaises(Failure):
      Application('a.yaml', {'command': ['true'], 'outputs': ['x'], 'series': [{'name': 's', 'pattern': '(.)'}]}, {})

  def test_tolerance(self):
    self.assertTrue(agree(['1.00 2'], ['1.01 2'], {'within': 0.02}))
    self.assertFalse(agree(['1.00 2'], ['1.03 2'], {'within': 0.02}))
    self.assertFalse(agree(['1'], ['1', '1'], {'within': 0.02}))
    self.assertFalse(agree(['nan'], ['1'], {'within': 0.02}))
    self.assertFalse(agree(['1.0'], ['1'], 'equal'))

  def test_templates(self):
    app = shipped('hpl')
    app.prepare(os.path.join(self.directory, 'work'), {}, 6)
    with open(os.path.join(self.directory, 'work', 'HPL.dat'), encoding='utf-8') as file:
      lines = [line.split()[0] for line in file]
    self.assertEqual((lines[5], lines[10], lines[11]), ('8000', '1', '6'))
    app = Application(app.path, app.content, {'problems': {2: 16, 11: 2}})
    self.assertEqual((app.fill('{problems}', 2), app.fill('{problems}', 11)), ('16', '2'))

  def test_compared_with_one_left_alone(self):
    spec = Spec(os.path.join(CONFIGS, 'smoke.yaml'))
    def record(number, at_once, residual, state='done', containers=2):
      return {'number': number, 'application': 'hpl', 'containers': containers, 'at_once': at_once, 'state': state,
              'results': spec.applications['hpl'].read(hpl_output(residual), '.')['results']}
    records = [record(1, 2, '5'), record(2, 0, '4', 'failed'), record(3, 0, '3'), record(4, 1, '3'),
               record(5, 0, '9', containers=4)]
    self.assertEqual([number for number, _ in tables.compare_results(spec, records)], [1, 2])


class Arithmetic(unittest.TestCase):
  def test_paired(self):
    found = statistics_of.paired([(10, 11), (20, 22), (10, 11)])
    self.assertAlmostEqual(found['mean_percent'], 10)
    self.assertAlmostEqual(found['interval_percent'][0], 10)
    self.assertAlmostEqual(found['mean_s'], 4 / 3)
    self.assertIsNone(statistics_of.paired([(10, 11), (20, 22)])['interval_s'])
    self.assertIsNone(statistics_of.paired([]))

  def test_sizes_together(self):
    def record(block, containers, at_once, time_s, state='done'):
      moves = [{'report': {'outcome': 'committed', 'downtime_ms': 100}}] * (4 if at_once else 0)
      return {'application': 'hpl', 'block': block, 'containers': containers, 'at_once': at_once, 'cycles': 4,
              'fabric': '1g' if at_once else 'none', 'mode': 'pre-copy', 'time_s': time_s, 'state': state,
              'migrations': moves}
    records = [record(1, 2, 0, 10), record(1, 2, 1, 11), record(1, 3, 0, 20), record(1, 3, 1, 22), record(1, 3, 2, 24),
               record(2, 2, 0, 10), record(2, 2, 1, 11), record(2, 3, 1, 99), record(2, 2, 2, 99, 'failed')]
    one, two = tables.summarize_sizes(records)
    self.assertEqual((one['at_once'], one['containers'], one['overhead']['pairs']), (1, [2, 3], 3))
    self.assertAlmostEqual(one['overhead']['mean_percent'], 10)
    self.assertAlmostEqual(one['overhead_of_stopped'], (1 + 2 + 1) / 3 / one['stopped_s'])
    self.assertEqual((two['at_once'], two['overhead']['pairs'], two['overhead']['interval_s']), (2, 1, None))
    lines = tables.sizes_for_people({'sizes': [one, two]})
    self.assertEqual([len(line) for line in lines], [len(lines[0])] * 3)

  def test_bootstrap(self):
    low, high = statistics_of.bootstrap([1, 2, 3, 4, 5, 6, 7, 8, 9])
    self.assertTrue(3 < low < 4.5 and 5.5 < high < 7, (low, high))

  def test_study(self):
    """Table of appendix A: HPL, 2 containers, left alone and with one migration at a time over 10g."""
    series = dict(plots.of_study('hpl', 1))
    self.assertAlmostEqual(statistics_of.describe(series['hpl alone'][2])['mean'], 884.626, 2)
    self.assertAlmostEqual(statistics_of.describe(series['hpl, 10g'][2])['mean'], 989.793, 2)

  def test_plots(self):
    svg = plots.bars('t', 's', [2, 3], [('a', {2: (1, 0.1), 3: (2, 0)}), ('b', {3: (1, 0)})])
    self.assertTrue(svg.startswith('<svg') and svg.rstrip().endswith('</svg>'))
    with self.assertRaises(Failure):
      plots.gnuplot(['plot nonsense'])

  def test_html_escapes(self):
    out = report.Report()
    out.text('a < b & c', bad=True)
    self.assertIn('a &lt; b &amp; c', out.html('t'))


class State(unittest.TestCase):
  def test_differences(self):
    before = {'a': {'b': [1, 2]}, 'c': 1}
    self.assertEqual(container_state.differences(before, {'a': {'b': [1, 2]}, 'c': 1}), [])
    self.assertEqual(container_state.differences(before, {'a': {'b': [1, 3]}}),
                     ['a.b: [1, 2] became [1, 3]', 'c: 1 became nothing'])
    self.assertEqual(container_state.differences({'a': list(range(100))}, {'a': list(range(1, 101))}),
                     ['a: [0] of 100 became [100] of 100'])

  def test_connections(self):
    """One that its other end has closed is none of those that must be there after a migration."""
    with socket.create_server(('127.0.0.1', 0)) as server, socket.create_connection(server.getsockname()) as ours:
      theirs, _ = server.accept()
      before = container_state.open_files(os.getpid())
      theirs.close()
      after = container_state.open_files(os.getpid())
      ends = [f'0100007F:{one.getsockname()[1]:04X}' for one in (server, ours)]
      self.assertEqual([before[str(one.fileno())] for one in (server, ours)],
                       [f'socket {ends[0]}-00000000:0000 listening', f'socket {ends[1]}-{ends[0]} established'])
      self.assertNotIn(str(ours.fileno()), after)
      self.assertEqual(after[str(server.fileno())], before[str(server.fileno())])

  def test_new_sockets(self):
    """The application's; one that is missing is the migration's fault."""
    def state(files):
      return {'processes': {1: {'files': files}}}
    before = state({'3': 'socket a-b established', '4': '/etc/passwd'})
    after = state({'3': 'socket a-b established', '4': '/etc/passwd', '5': 'socket a-c established'})
    self.assertEqual(container_state.without_new_sockets(after, before), before)
    after = state({'5': 'socket a-c established', '4': '/etc/group', '6': '/etc/passwd'})
    self.assertEqual(container_state.differences(before, container_state.without_new_sockets(after, before)),
                     ['processes.1.files.3: "socket a-b established" became nothing',
                      'processes.1.files.4: "/etc/passwd" became "/etc/group"',
                      'processes.1.files.6: nothing became "/etc/passwd"'])

  def test_closed_sockets(self):
    """Open at neither end: closed by the application. At the other end: lost. With somebody else: not known."""
    def state(*files):
      return {'processes': {1: {'files': dict(files)}}}
    closed, lost, outside = [(str(fd), f'socket A:1-{there} established')
                             for fd, there in ((3, 'B:2'), (4, 'B:3'), (5, 'X:4'))]
    ends = {('A:9', 'B:9'), ('B:9', 'A:9'), ('B:3', 'A:1')}
    self.assertEqual(container_state.without_closed_sockets(state(closed, lost, outside), state(), ends),
                     state(lost, outside))
    self.assertEqual(container_state.without_closed_sockets(state(closed), state(closed), ends), state(closed))

  def test_process(self):
    """Of this very process: an open file, a limit and a directory that change are seen."""
    here = container_state.of_process(os.getpid(), {os.getpid(): 1})
    self.assertEqual(container_state.differences(here, container_state.of_process(os.getpid(), {os.getpid(): 1})), [])
    with open('/etc/passwd', encoding='utf-8') as file:
      now = container_state.of_process(os.getpid(), {os.getpid(): 1})
      self.assertEqual(container_state.differences(here, now),
                       [f'files.{file.fileno()}: nothing became "/etc/passwd"'])


class Omen(Directory):
  INPUT = ('wire: {width: 3, height: 4, length: 12, film: true, hopping: 1eV, disorder: 0.5eV}\n'
           'energies: {from: 1.713eV, to: 4.337eV, count: 17}\nbiases: [0.1V, 0.2V]\nmomenta: 2\n'
           'fermi: 3eV\nphases_at_once: PHASES\n')

  def run_on(self, ranks, phases):
    """The transmissions of a run outside of containers, as text."""
    out = os.path.join(self.directory, f'{ranks}-{phases}')
    path = self.write(f'{ranks}-{phases}/input.yaml', self.INPUT.replace('PHASES', str(phases)))
    done = subprocess.run(['mpiexec.mpich', '-n', str(ranks), harness.setup_environment()['OMEN'], path, out],
                          text=True, capture_output=True, check=False, timeout=120)
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    self.assertIn('4 checks passed, 0 failed, 0 skipped', done.stdout)
    self.assertEqual(done.stdout.count(' completed: '), 6)
    with open(os.path.join(out, 'transmission.csv'), encoding='ascii') as file:
      return file.read()

  def test_ranks(self):
    """The same bits on any number of ranks, however they are divided."""
    one = self.run_on(1, 1)
    self.assertEqual(one.count('\n'), 1 + 6 * 17)
    for ranks, phases in ((2, 1), (3, 2), (5, 4)):
      self.assertEqual(self.run_on(ranks, phases), one)

  def test_example(self):
    """`lifeboat run configs/omen.yaml`, while its ranks are moved."""
    arguments = argparse.Namespace(name=NAME, build=BUILD, file=os.path.join(ROOT, 'configs', 'lab.yaml'),
                                   systemd=False, keep=False)
    with harness.Cluster(arguments) as cluster:
      job = subprocess.Popen(cluster.command('run', os.path.join(ROOT, 'configs', 'omen.yaml')), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
      try:
        while job.poll() is None and len(cluster.where()) < 4:
          time.sleep(0.2)
        time.sleep(2)
        where = cluster.where()
        moved = [cluster.migrate(name, next(n for n in cluster.nodes if n != where[name]), '10g') for name in where]
        text, _ = job.communicate(timeout=500)
      finally:
        job.kill()
    self.assertEqual([report['outcome'] for report in moved], ['committed'] * 4)
    self.assertEqual(job.returncode, 0, text)
    self.assertIn('4 checks passed', text)


class Programs(Directory):
  """Of mpi/bench, outside of containers."""

  def run_on(self, ranks, name, *words, code=0):
    program = programs.build(harness.setup_environment(), name)
    done = subprocess.run(['mpiexec.mpich', '-n', str(ranks), program, *words], text=True, capture_output=True,
                          check=False, timeout=120)
    self.assertEqual(done.returncode, code, done.stdout + done.stderr)
    return done.stdout

  def test_transpose(self):
    digests = {self.run_on(ranks, 'transpose', '240', '5').split('digest ')[1].split()[0] for ranks in (1, 2, 4)}
    self.assertEqual(len(digests), 1)
    self.assertNotIn(self.run_on(1, 'transpose', '240', '6').split('digest ')[1].split()[0], digests)
    self.run_on(2, 'transpose', '241', '5', code=2)

  def test_web(self):
    text = self.run_on(3, 'web', '--interface', 'lo', '--bytes', '100001', '--connections', '5', '300')
    self.assertIn('web requests 600 errors 0 wrong 0\n', text)

  def test_pingpong(self):
    text = self.run_on(2, 'pingpong', '1')
    self.assertEqual(shipped('pingpong').read(text, self.directory)['wrong'], [])
    self.assertRegex(text, r'(?m)^latency rank 0 [\d.]+ us bandwidth [\d.]+ MB/s at [\d.]+$')


class Campaigns(Directory):
  def test_good(self):
    summary = self.make({**ONE, 'cells': [{'application': 'memory', 'containers': 2, 'at_once': [1, 3],
                                           'cycles': 3}]})
    self.assertEqual((summary['runs'], summary['failed'], summary['results_equal']), (2, 0, True))
    with open(os.path.join(self.directory, 'out', 'migrations.csv'), encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual(len(rows), 6)
    # Three at once of a job of two: an idle container goes along.
    self.assertIn('bystander-0', {row['container'] for row in rows})
    self.assertTrue(all(float(row['downtime_ms']) > 1 and row['state_differences'] == '0' for row in rows))
    with open(os.path.join(self.directory, 'out', 'report.html'), encoding='utf-8') as file:
      self.assertIn('</svg>', file.read())

  def test_workloads(self):
    """Every kind of program is moved once, and says the same as one that was left alone."""
    cells = [{'application': ['compile', 'pingpong', 'transpose'], 'cycles': 2},
             {'application': 'web', 'containers': 3, 'cycles': 3}]
    summary = self.make({**ONE, 'cells': cells, 'parameters': {
      'compile': {'runs': 12}, 'transpose': {'steps': 150}, 'web': {'requests': 60000}}})
    self.assertEqual((summary['runs'], summary['failed'], summary['results_equal'], summary['migrations']),
                     (7, 0, True, 9), summary)
    with open(os.path.join(self.directory, 'out', 'series.csv'), encoding='utf-8') as file:
      names = collections.Counter(row['series'] for row in csv.DictReader(file))
    self.assertGreater(names['latency'], 10)
    self.assertGreater(names['longest time without an answer'], 1)

  def test_corrupted_page(self):
    summary = self.make({**ONE, 'spoil': 'page'}, code=1)
    self.assertEqual(summary['failed'], 1)
    self.assertIn('WRONG', ''.join(summary['problems']))

  def test_slowed(self):
    summary = self.make({**ONE, 'spoil': 'slow'})
    self.assertGreater(summary['cells'][0]['stall_s']['mean'], 4.5)

  def test_killed(self):
    """kill -9 in the middle of a run, and resume: what was measured stays as it was."""
    out = os.path.join(self.directory, 'out')
    spec = self.write('spec.yaml', {**ONE, 'repetitions': 2, 'start_s': 3})
    child = subprocess.Popen([PROGRAM, 'run', spec, '--out', out, '--name', NAME, '--build', BUILD],
                             stdout=subprocess.DEVNULL)
    first = os.path.join(out, 'runs', '0001', 'run.json')
    end = time.monotonic() + 120
    while not os.path.isdir(os.path.join(out, 'runs', '0002')) and time.monotonic() < end:
      time.sleep(0.1)
    time.sleep(1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with open(first, encoding='utf-8') as file:
      before = file.read()
    subprocess.run([os.path.join(ROOT, 'scripts', 'lab'), '--name', NAME, 'down'], check=True, timeout=60)
    text = self.campaign('resume', out, '--name', NAME, '--build', BUILD)
    self.assertIn('2 of 2 runs, 0 failed, 1 interrupted; results equal', text)
    with open(first, encoding='utf-8') as file:
      self.assertEqual(file.read(), before)

  def test_lab_is_killed(self):
    """The run during which it happens has failed, and is counted; the next one has a lab again."""
    out = os.path.join(self.directory, 'out')
    spec = self.write('spec.yaml', {**ONE, 'repetitions': 2, 'start_s': 4})
    child = subprocess.Popen([PROGRAM, 'run', spec, '--out', out, '--name', NAME, '--build', BUILD], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 120
    work = os.path.join(out, 'runs', '0001')
    while not os.path.isdir(work) and time.monotonic() < end:
      time.sleep(0.1)
    time.sleep(5)
    subprocess.run([os.path.join(ROOT, 'scripts', 'lab'), '--name', NAME, 'down'], check=True, timeout=60)
    text, _ = child.communicate(timeout=300)
    self.assertEqual(child.returncode, 1, text)
    self.assertIn('2 of 2 runs, 1 failed, 0 interrupted; results equal', text)

  def test_smoke(self):
    out = os.path.join(self.directory, 'out')
    began = time.monotonic()
    text = self.campaign('run', 'smoke', '--out', out, '--name', NAME, '--build', BUILD)
    self.assertIn('14 of 14 runs, 0 failed, 0 interrupted; results equal', text)
    print(f'smoke took {time.monotonic() - began:.0f} s', file=sys.stderr)


def skip(why):
  print(f'SKIP: {why}\n0 passed, 0 failed, 1 skipped')
  sys.exit(77)


def main():
  if os.geteuid() != 0:
    skip('namespaces, cgroups and CRIU need root')
  if not os.access(f'{BUILD}/lifeboatd', os.X_OK):
    skip(f'{BUILD}/lifeboatd has not been built')
  try:
    harness.setup_environment()
  except Failure:
    skip('scripts/setup has not been run')
  suite = unittest.TestSuite()
  for group in unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__']):
    suite.addTests(t for t in group if len(sys.argv) == 1 or t.id().split('.')[-1][5:] in sys.argv[1:]
                   or type(t).__name__ in sys.argv[1:])
  result = unittest.TextTestRunner(verbosity=2).run(suite)
  failed = len(result.failures) + len(result.errors)
  print(f'{result.testsRun - failed} passed, {failed} failed, 0 skipped')
  return 1 if failed else 0


if __name__ == '__main__':
  harness.end_on_signals()
  sys.exit(main())
