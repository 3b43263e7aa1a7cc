"""A campaign: its directory, the runs that are still to be made, and going on after a kill.

  DIR/spec.yaml, DIR/plan.json   what was asked for; the runs in their order
  DIR/runs/0001/                 one run: run.json (written last, at once: it is there or not), output.txt,
                                 work/ (the job's files), the daemons' logs if something was wrong
  DIR/interrupted/               what a kill left of a run; the run is made again
  DIR/summary.json, *.csv, report.*   of the runs made so far
"""
import argparse
import contextlib
import json
import os
import shutil
import statistics
import time

from benchlib import figures, harness, systems
from benchlib.harness import Failure, Interrupted, say
from campaignlib import report, run, tables
from campaignlib.spec import Spec, describe
from lablib.base import LabError


def write_json(path, content):
  with open(path + '.new', 'w', encoding='utf-8') as file:
    json.dump(content, file, indent=1)
    file.write('\n')
    file.flush()
    os.fsync(file.fileno())
  os.rename(path + '.new', path)


def read_json(path):
  with open(path, encoding='utf-8') as file:
    return json.load(file)


class Campaign:
  def __init__(self, directory, args):
    self.directory, self.args = os.path.abspath(directory), args
    self.cluster = None

  def path(self, *parts):
    return os.path.join(self.directory, *parts)

  # ---- beginning, or going on

  def begin(self, spec_path):
    if os.path.exists(self.path('plan.json')):
      raise Failure(f'{self.directory} has a campaign already; go on with it: '
                    f'lifeboat-campaign resume {self.directory}')
    spec = Spec(spec_path)
    os.makedirs(self.path('runs'), exist_ok=True)
    shutil.copy(spec_path, self.path('spec.yaml'))
    # Where the spec came from, for its lab and its applications.
    write_json(self.path('plan.json'), {'spec': os.path.abspath(spec_path), 'runs': spec.plan()})

  def load(self):
    try:
      plan = read_json(self.path('plan.json'))
    except OSError as error:
      raise Failure(f'{self.path("plan.json")}: {error.strerror}; is that the directory of a campaign?') \
        from None
    self.spec = Spec(plan['spec'])
    with open(plan['spec'], encoding='utf-8') as now, open(self.path('spec.yaml'), encoding='utf-8') as then:
      if now.read() != then.read():
        raise Failure(f'{plan["spec"]} has changed since the campaign began; put back the one in '
                      f'{self.path("spec.yaml")}, or begin another')
    self.plan = plan['runs']

  def run_directory(self, planned):
    return self.path('runs', f'{planned["number"]:04}')

  def records(self):
    """Of the runs made so far, in the order of the plan."""
    paths = (os.path.join(self.run_directory(planned), 'run.json') for planned in self.plan)
    return [read_json(path) for path in paths if os.path.exists(path)]

  # ---- making the runs

  def make(self):
    self.load()
    for planned in self.plan:
      self.set_aside(planned)
    done = {record['number'] for record in self.records()}
    try:
      for planned in self.plan:
        if planned['number'] not in done:
          self.one(planned)
          done.add(planned['number'])
    finally:
      self.close_lab()
      self.write()
    return self.tell()

  def set_aside(self, planned):
    """What is left of a run that was cut short."""
    directory = self.run_directory(planned)
    if os.path.isdir(directory) and not os.path.exists(os.path.join(directory, 'run.json')):
      aside = self.path('interrupted')
      os.makedirs(aside, exist_ok=True)
      os.rename(directory, os.path.join(aside, f'{planned["number"]:04}-{len(os.listdir(aside)) + 1}'))

  def one(self, planned):
    directory = self.run_directory(planned)
    os.makedirs(directory)
    record = None
    try:
      self.open_lab()
      record = run.Run(self.spec, planned, self.cluster, directory).make()
    except LabError as error:
      record = {**planned, 'state': 'failed', 'migrations': [], 'problems': [f'the lab: {error}'],
                'took_s': 0}
    write_json(os.path.join(directory, 'run.json'), record)
    self.say_progress(record)
    if record['state'] != 'done' and not self.lab_is_well():
      self.close_lab()

  def open_lab(self):
    """A lab whose nodes are all up. One that another load of the machine has kept from being heard of would
    take nothing until its probation is over: then another lab is made."""
    if self.cluster is not None and not self.all_up():
      self.close_lab()
    if self.cluster is None:
      most = max([4] + [p['at_once'] for p in self.plan])
      cluster = systems.BenchCluster(
        argparse.Namespace(name=self.args.name, build=self.args.build, file=self.spec.lab, systemd=False, keep=False),
        {'limits': {'migrations_per_node': most}})
      cluster.__enter__()
      self.cluster = cluster
      self.remember_environment()

  def all_up(self):
    with contextlib.suppress(LabError, harness.Hang):
      return all(node['state'] == 'up' for node in self.cluster.ask('nodes')['nodes'])
    return False

  def close_lab(self):
    if self.cluster is not None:
      self.cluster.__exit__(None, None, None)
      self.cluster = None

  def remember_environment(self):
    path = self.path('environment.json')
    known = read_json(path) if os.path.exists(path) else []
    about = {'at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), **figures.environment(self.cluster),
             'cpu': tables.cpu_model(), 'mpich': tables.mpich_version()}
    write_json(path, [*known, about])

  def lab_is_well(self):
    try:
      self.cluster.daemons()
      return not self.cluster.where()
    except Interrupted:
      raise
    except (LabError, Failure, OSError, AttributeError):
      return False

  # ---- telling

  def left_s(self):
    """How long what is left will take: each run as long as those of its application so far."""
    records, took = self.records(), {}
    for record in records:
      took.setdefault(record['application'], []).append(record['took_s'])
    made = {record['number'] for record in records}
    return sum(statistics.mean(took[p['application']]) if p['application'] in took
               else self.spec.estimate_s(p) for p in self.plan if p['number'] not in made)

  def say_progress(self, record):
    downtimes = [m['report']['downtime_ms'] for m in record['migrations'] if 'downtime_ms' in m['report']]
    text = f'{record["number"]}/{len(self.plan)} {describe(record)}: '
    if record.get('time_s') is not None:
      text += f'{record["time_s"]:.1f} s'
    if downtimes:
      text += f', downtime median {statistics.median(downtimes):.0f} ms'
    text += ', ok' if record['state'] == 'done' else f', FAILED: {record["problems"][0]}'
    left = self.left_s()
    say(text + (f'; {left / 60:.1f} min to go' if left else ''))

  def write(self):
    """The tables and the report, of what there is."""
    records = self.records()
    environment = self.path('environment.json')
    about = read_json(environment) if os.path.exists(environment) else []
    aside = self.path('interrupted')
    interrupted = len(os.listdir(aside)) if os.path.isdir(aside) else 0
    summary = tables.summarize(self.spec, self.plan, records, about, interrupted)
    write_json(self.path('summary.json'), summary)
    tables.write(self.directory, records)
    report.write(self.directory, self.spec, records, summary)
    return summary

  def tell(self):
    summary = read_json(self.path('summary.json'))
    print('\n' + tables.show(summary))
    for line in summary['not_equal'] + summary['problems']:
      print(f'! {line}')
    print(f'{summary["runs"]} of {summary["planned"]} runs, {summary["failed"]} failed, '
          f'{summary["interrupted"]} interrupted; results ' +
          ('equal' if summary['results_equal'] else 'NOT EQUAL') + f'; report: {self.path("report.html")}')
    good = summary['results_equal'] and not summary['failed'] and summary['runs'] == summary['planned']
    return 0 if good else 1


def show_plan(spec):
  plan = spec.plan()
  for planned in plan:
    print(f'{planned["number"]:4}  block {planned["block"]}  {describe(planned)}')
  seconds = sum(spec.estimate_s(planned) for planned in plan)
  print(f'{len(plan)} runs of {len(spec.cells)} cells in {spec.repetitions} blocks; about {seconds / 60:.0f} min '
        'on an idle machine')
  return 0
