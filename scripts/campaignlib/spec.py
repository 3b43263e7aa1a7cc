"""What a campaign consists of: a spec's factors, and from them the runs in their order."""
import itertools
import os
import random

import yaml

from benchlib.harness import ROOT, Failure
from campaignlib.application import Application

CONFIGS = os.path.join(ROOT, 'configs', 'campaign')
FACTORS = {'application': None, 'containers': [2], 'at_once': [1], 'cycles': [8], 'fabric': ['10g'],
           'mode': ['pre-copy']}
KEYS = ('name', 'about', 'seed', 'repetitions', 'baselines', 'lab', 'start_s', 'pause_s', 'limit_s',
        'parameters', 'variants', 'cells', 'spoil')
SPOILS = ('page', 'slow')


def load_yaml(path):
  try:
    with open(path, encoding='utf-8') as file:
      content = yaml.safe_load(file)
  except OSError as error:
    raise Failure(f'{path}: {error.strerror}') from None
  except yaml.YAMLError as error:
    raise Failure(f'{path}: not YAML: {error}') from None
  if not isinstance(content, dict):
    raise Failure(f'{path}: expected a mapping')
  return content


class Spec:
  """A spec's file (configs/campaign/smoke.yaml has every key)."""

  def __init__(self, path):
    self.path = path
    content = load_yaml(path)
    self.refuse_unknown(content, KEYS, '')
    self.name = content.get('name') or os.path.splitext(os.path.basename(path))[0]
    self.about = content.get('about', '')
    self.seed = self.number(content, 'seed', 1, 0)
    self.repetitions = self.number(content, 'repetitions', 3, 1)
    self.baselines = self.number(content, 'baselines', 1, 1)
    self.start_s = self.number(content, 'start_s', 2, 0)
    self.pause_s = self.number(content, 'pause_s', 0, 0)
    self.limit_s = self.number(content, 'limit_s', 3600, 1)
    self.lab = os.path.join(os.path.dirname(os.path.abspath(path)), content.get('lab', '../lab.yaml'))
    self.parameters = content.get('parameters') or {}
    self.variants = content.get('variants') or {}
    self.spoil = content.get('spoil')
    if self.spoil not in (None, *SPOILS):
      raise Failure(f'{path}: spoil: expected one of {", ".join(SPOILS)}, got {self.spoil!r}')
    self.applications = {}
    self.cells = self.read_cells(content.get('cells'))
    for name in self.parameters:
      if name not in (app.base for app in self.applications.values()):
        raise Failure(f'{path}: parameters.{name}: no cell has this application')

  def refuse_unknown(self, content, known, where):
    for key in content:
      if key not in known:
        raise Failure(f'{self.path}: {where}{key}: unknown key; there are {", ".join(known)}')

  def number(self, content, key, default, least):
    value = content.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
      raise Failure(f'{self.path}: {key}: expected a number of at least {least}, got {value!r}')
    return value

  def read_cells(self, groups):
    """Every combination of each group's factors, once; a baseline for each that migrates."""
    if not isinstance(groups, list) or not groups:
      raise Failure(f'{self.path}: cells: expected a list of mappings of factors')
    out = {}
    for index, group in enumerate(groups):
      where = f'cells[{index}].'
      self.refuse_unknown(group, FACTORS, where)
      if 'application' not in group:
        raise Failure(f'{self.path}: {where}application: missing')
      values = [as_list(group.get(name, default)) for name, default in FACTORS.items()]
      for combination in itertools.product(*values):
        cell = dict(zip(FACTORS, combination))
        self.check(cell, where)
        runs_until_told = self.applications[cell['application']].stop_file
        for one in ([] if runs_until_told else [baseline_of(cell)]) + ([cell] if cell['at_once'] else []):
          out.setdefault(tuple(one.values()), one)
    return list(out.values())

  def check(self, cell, where):
    name = cell['application']
    if name not in self.applications:
      self.applications[name] = self.load_application(name)
    for factor, least, most in (('containers', 1, 64), ('at_once', 0, 64), ('cycles', 1, 10 ** 6)):
      value = cell[factor]
      if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Failure(f'{self.path}: {where}{factor}: expected {least} to {most}, got {value!r}')
    self.applications[name].check(cell['containers'])

  def load_application(self, name):
    """One of this directory's applications/, or of Lifeboat's own; or one of these with other parameters."""
    variant = dict(self.variants.get(name) or {})
    base = variant.pop('application', name)
    file = os.path.join('applications', f'{base}.yaml')
    for directory in (os.path.dirname(os.path.abspath(self.path)), CONFIGS):
      path = os.path.join(directory, file)
      if os.path.exists(path):
        parameters = {**(self.parameters.get(base) or {}), **variant}
        return Application(path, load_yaml(path), parameters, name)
    raise Failure(f'{self.path}: no application {base!r}: neither {file} beside the spec nor in {CONFIGS}')

  # ---- the plan

  def plan(self):
    """The runs in the order they are made. A block has each cell once (and the baselines as often as
    the spec says), shuffled: what changes slowly changes baselines and migrated runs alike."""
    chance, out = random.Random(self.seed), []
    for block in range(1, self.repetitions + 1):
      runs = [cell for cell in self.cells for _ in range(1 if cell['at_once'] else self.baselines)]
      chance.shuffle(runs)
      out += [{'number': len(out) + i + 1, 'block': block, **cell} for i, cell in enumerate(runs)]
    return out

  def estimate_s(self, run):
    """Guessed before anything has been measured."""
    app = self.applications[run['application']]
    moves = 0 if not run['at_once'] else run['cycles'] * 2
    return 5 + (self.start_s + moves if app.stop_file else app.estimate_s + moves / 4)


def as_list(value):
  return value if isinstance(value, list) else [value]


def baseline_of(cell):
  """The same job left alone."""
  return {**cell, 'at_once': 0, 'cycles': 0, 'fabric': 'none', 'mode': 'none'}


def describe(run):
  text = f'{run["application"]}, {run["containers"]} containers'
  if not run['at_once']:
    return text + ', left alone'
  return text + f', {run["cycles"]} migrations {run["at_once"]} at once, {run["fabric"]}, {run["mode"]}'
