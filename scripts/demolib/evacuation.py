"""scripts/demo: HPL is running, a DIMM starts to tell errors, the node's containers leave by
themselves, the node is killed, and HPL does not notice."""
import datetime
import json
import os
import time

import yaml

from demolib import hpl
from demolib.memory_errors import Dimm
from demolib.run import Demo, Job, Move, layout, plural

HEALTH_LIMIT = 20       # seconds until the node is degraded
EVACUATION_LIMIT = 120  # seconds until it is empty
DOWN_LIMIT = 30         # seconds until a dead node is known to be down
ERRORS = (1, 2, 4, 7, 12)   # corrected errors in all, one step a second: more than 10 in a day are a sign
STEPS = (('noticed', 'error counted -> node degraded'),
         ('planned', '-> first migration started'),
         ('moved', '-> last container runs elsewhere'))


def seconds_of(timestamp):
  """Of "2026-01-31T12:00:00.123Z", since 1970."""
  return datetime.datetime.fromisoformat(timestamp.replace('Z', '+00:00')).timestamp()


class Evacuation(Demo):
  def __init__(self, build, bundle, size, screen):
    super().__init__(build, bundle, size, screen)
    self.dimms = {}          # by node
    self.victim = ''
    self.state = {}          # of the victim when it was degraded
    self.steps = {}          # seconds of each of STEPS
    self.empty = self.down_after = None

  def title(self):
    return (f'Lifeboat: HPL in {hpl.RANKS} containers on 3 nodes; one of these begins to fail, and '
            'is left in time')

  def lab_file(self, directory):
    with open(super().lab_file(directory), encoding='utf-8') as file:
      lab = yaml.safe_load(file)
    for node in lab['nodes']:
      if node.get('role', 'compute') != 'compute':
        continue
      name = node['name']
      self.dimms[name] = Dimm(os.path.join(directory, f'hardware-{name}'))
      node['lifeboat'] = {'sources': {'root': self.dimms[name].root, 'edac': {'interval': '500ms'}}}
    path = os.path.join(directory, 'lab.yaml')
    with open(path, 'w', encoding='utf-8') as file:
      json.dump(lab, file)   # which is YAML as well
    return path

  # ---- the way of things

  def disturbed(self):
    self.screen.title('2. The same, and a node begins to fail')
    job = Job(self.cluster, 'hpl', self.bundle, self.size)
    places = self.say_places(job)
    if places:
      self.wait(job, 0.2 * self.still.seconds, 'HPL computes')
      self.fail(job, places)
    self.finish(job, 60 + (2 if self.deviations else 5) * self.still_seconds)
    self.moved, self.moved_seconds = self.judge(job), job.seconds()

  def fail(self, job, places):
    """One of the nodes with most of the ranks."""
    nodes = list(places.values())
    self.victim = max(self.cluster.nodes, key=nodes.count)
    told = self.tell_errors(job)
    if told is None or not self.follow(job, told):
      return
    self.wait(job, 1, 'HPL computes')
    self.cut_power(job)

  def say_at(self, job, text):
    self.screen.say(f'  {job.seconds():6.1f} s  {text}')

  def tell_errors(self, job):
    """Until the node is degraded; returns when the last errors were told."""
    self.screen.say('')
    for count in ERRORS:
      self.dimms[self.victim].corrected(count)
      told = time.time()
      self.say_at(job, f'{self.victim}: its DIMM has corrected {count} '
                       f'error{"" if count == 1 else "s"}')
      if self.until_degraded(job, 1):
        return told
    if self.until_degraded(job, HEALTH_LIMIT):
      return told
    self.deviation(f'{self.victim} is not degraded {HEALTH_LIMIT} s after {ERRORS[-1]} corrected errors')
    return None

  def until_degraded(self, job, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and job.running():
      self.state = self.cluster.get(f'/v1/nodes/{self.victim}') or {}
      if self.state.get('state') == 'degraded':
        self.say_at(job, f'{self.victim}: {self.screen.bad("degraded")}: {self.state["reason"]}')
        for line in self.state.get('evidence', ())[-4:]:
          self.screen.say(f'            | {line}')
        return True
      time.sleep(0.05)
    return False

  def follow(self, job, told):
    """The evacuation, until the node is empty."""
    shown, end = set(), time.monotonic() + EVACUATION_LIMIT
    while time.monotonic() < end and job.running():
      node = self.cluster.get(f'/v1/nodes/{self.victim}') or {}
      evacuation = node.get('evacuation', {})
      reports = evacuation.get('migrations', [])
      for report in reports:
        if report['outcome'] in ('committed', 'aborted') and report['total_ms'] > 0 \
           and report['id'] not in shown:
          shown.add(report['id'])
          self.note(job, report)
      self.screen.live(*(f'            {r["container"]} -> {r["target"]}  {r["phase"]}' for r in reports
                         if r['id'] not in shown))
      if evacuation.get('phase') == 'empty' and len(shown) == len(reports):
        return self.measure(job, told, reports)
      time.sleep(0.05)
    if job.running():
      self.deviation(f'{self.victim} is not empty {EVACUATION_LIMIT} s after it turned degraded')
    else:
      self.deviation(f'HPL ended before {self.victim} was empty; use a larger --size')
    return False

  def note(self, job, report):
    move = Move(len(self.moves) + 1, report['container'], report['source'], report['target'],
                report['fabric'])
    move.report = report
    if report['outcome'] == 'committed':
      self.say_at(job, f'{move.container} runs on {move.target}; it stood still for '
                       f'{report["downtime_ms"]:.0f} ms')
    else:
      move.problem = report['error']
      self.say_at(job, f'{move.container} did not get to {move.target}: {move.problem}')
    self.moves.append(move)

  def measure(self, job, told, reports):
    since = seconds_of(self.state['since'])
    first = min(seconds_of(report['started_at']) for report in reports)
    last = max(seconds_of(report['started_at']) + report['total_ms'] / 1000 for report in reports
               if report['outcome'] == 'committed')
    self.steps = {'noticed': since - told, 'planned': first - since, 'moved': last - first}
    self.empty = sum(self.steps.values())
    self.say_at(job, f'{self.victim} is empty, {self.empty:.1f} s after the last error')
    return True

  def cut_power(self, job):
    self.cluster.kill(self.victim)
    began = time.monotonic()
    self.say_at(job, f'{self.victim} is killed: its cables are out, its processes gone')
    while time.monotonic() < began + DOWN_LIMIT:
      node = self.cluster.get(f'/v1/nodes/{self.victim}') or {}
      if node.get('state') == 'down':
        self.down_after = time.monotonic() - began
        self.say_at(job, f'{self.victim}: {self.screen.bad("down")}: {node["reason"]}')
        places = self.find(job)
        if places:
          self.screen.say('', f'  ranks  {layout(places, self.cluster.nodes)}')
        return
      time.sleep(0.1)
    self.deviation(f'{self.victim} is dead, and not known to be down after {DOWN_LIMIT} s')

  # ---- the end

  def summary(self):
    super().summary()
    if not self.steps:
      return
    rows = [('from the error to safety', 's', 'share')]
    rows += [(what, f'{self.steps[key]:.2f}', f'{100 * self.steps[key] / self.empty:.0f} %')
             for key, what in STEPS]
    rows.append(('in all', f'{self.empty:.2f}', ''))
    self.say_table(rows, '<>>')

  def good_news(self):
    return (f'{self.victim} was left by its {plural(len(self.moves), "container")} '
            f'{self.empty:.1f} s after the error and killed, HPL passed with the same residual')

  def figures(self):
    return {**super().figures(), 'node': self.victim, 'reason': self.state.get('reason'),
            'evidence': self.state.get('evidence'), 'risk': self.state.get('risk'),
            'lead_s': self.state.get('lead_s'),
            'steps_s': {key: round(value, 3) for key, value in self.steps.items()},
            'event_to_safety_s': self.empty and round(self.empty, 3),
            'down_known_after_s': self.down_after and round(self.down_after, 3)}
