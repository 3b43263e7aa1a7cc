"""An application as a campaign sees it, from its YAML file: how it is started, and what of its output
is a result.

  command      of one rank; {name} is filled in here and in `files`
  files        name -> text, written into /work beforehand
  programs     of mpi/bench (memory, pingpong, transpose, web), put into /work
  mounts       [{source, target, readonly}]: as in a job's description, besides /work
  parameters   name -> default; a spec may set others, as a value or as {number of containers: value}. Besides:
               containers
  memory       of a container
  estimate_s   how long a run takes, roughly
  stop_file    it runs until this file appears in /work ("migrations only"); else it ends by itself
  ready        its output says this when it has begun (default: its containers run)
  log          name of files in /work that are output, too, as a glob
  time         pattern; group 1 is its run time by its own clock, in seconds (default: as seen from outside)
  stall        pattern; the largest group 1 is the longest time in which one of its ranks got nowhere,
               in seconds, or with `stall_unit: ms` in these
  series       [{name, unit, pattern}]: measured over time; the pattern's groups are `at`, in seconds since 1970,
               and `value`
  results      [{name, pattern, compare}]: what has to be the same in every run of as many containers:
               compare: equal (default), or {within: X} (relative). The pattern has to be found.
  forbidden    [pattern]: none may be found
  outputs      names of files in /work (or globs) that have to be the same to the last byte
"""
import glob
import hashlib
import os
import re
import shutil

from benchlib import programs
from benchlib.harness import Failure

KEYS = ('about', 'command', 'files', 'programs', 'mounts', 'parameters', 'memory', 'estimate_s', 'stop_file',
        'ready', 'log', 'time', 'stall', 'stall_unit', 'series', 'results', 'forbidden', 'outputs', 'env')


class Application:
  def __init__(self, path, content, parameters, name=None):
    self.path, self.base = path, os.path.splitext(os.path.basename(path))[0]
    self.name = name or self.base
    for key in content:
      if key not in KEYS:
        raise Failure(f'{path}: {key}: unknown key; there are {", ".join(KEYS)}')
    if not content.get('command') or not (content.get('results') or content.get('outputs')):
      raise Failure(f'{path}: needs a `command`, and `results` or `outputs` that can be compared')
    self.content = content
    self.parameters = {**(content.get('parameters') or {}), **parameters}
    for name in parameters:
      if name not in (content.get('parameters') or {}):
        raise Failure(f'{path}: has no parameter {name!r}')
    self.stop_file, self.estimate_s = content.get('stop_file'), content.get('estimate_s', 60)
    self.patterns = {key: self.compile(key, content[key]) for key in ('ready', 'time', 'stall')
                     if key in content}
    self.results = [(r['name'], self.compile('results', r['pattern']), r.get('compare', 'equal'))
                    for r in content.get('results') or ()]
    self.series = [self.read_series(s) for s in content.get('series') or ()]
    self.forbidden = [self.compile('forbidden', p) for p in content.get('forbidden') or ()]

  def compile(self, key, pattern):
    try:
      return re.compile(pattern, re.MULTILINE)
    except re.error as error:
      raise Failure(f'{self.path}: {key}: {pattern!r}: {error}') from None

  def read_series(self, series):
    pattern = self.compile('series', series['pattern'])
    if not {'at', 'value'} <= set(pattern.groupindex):
      raise Failure(f'{self.path}: series: {series["name"]}: the pattern needs the groups `at` and `value`')
    return series['name'], series.get('unit', ''), pattern

  # ---- before a run

  def fill(self, text, containers):
    values = {'containers': containers}
    for name, value in self.parameters.items():
      if isinstance(value, dict) and containers not in value:
        raise Failure(f'{self.path}: parameters.{name}: none for {containers} containers')
      values[name] = value[containers] if isinstance(value, dict) else value
    try:
      return str(text).format(**values)
    except (KeyError, IndexError, ValueError) as error:
      raise Failure(f'{self.path}: cannot fill in {text!r}: {error}') from None

  def check(self, containers):
    """Throws for what cannot be filled in."""
    for text in [*self.content['command'], *(self.content.get('files') or {}).values(), self.content.get('memory', '')]:
      self.fill(text, containers)

  def prepare(self, directory, environment, containers):
    """Makes what is to be /work."""
    os.makedirs(directory)
    for name, text in (self.content.get('files') or {}).items():
      with open(os.path.join(directory, name), 'w', encoding='utf-8') as file:
        file.write(self.fill(text, containers))
    for name in self.content.get('programs') or ():
      if name not in programs.PARTS:
        raise Failure(f'{self.path}: programs: there are {", ".join(programs.PARTS)}, not {name!r}')
      shutil.copy2(programs.build(environment, name), os.path.join(directory, name))

  def job(self, directory, containers):
    return {'command': [self.fill(word, containers) for word in self.content['command']],
            'containers': containers, 'memory': self.fill(self.content.get('memory', '512MiB'), containers),
            'env': {k: str(v) for k, v in (self.content.get('env') or {}).items()},
            'mounts': [{'source': directory, 'target': '/work'}, *(self.content.get('mounts') or ())],
            'user': {'uid': 0, 'gid': 0}}

  # ---- after it

  def logs(self, directory):
    """Output in files, as text."""
    pattern, out = self.content.get('log'), []
    for path in sorted(glob.glob(os.path.join(directory, pattern))) if pattern else ():
      with open(path, encoding='utf-8', errors='replace') as file:
        out.append(file.read())
    return '\n'.join(out)

  def read(self, text, directory):
    """{time_s, stall_s, series, results, wrong}: `wrong` says what should have been there, or should not."""
    wrong, results = [], {}
    for name, pattern, _ in self.results:
      found = [' '.join(m.groups() or (m.group(0),)) for m in pattern.finditer(text)]
      if not found:
        wrong.append(f'{name}: no line of the output matches {pattern.pattern!r}')
      results[name] = found
    for pattern in self.forbidden:
      found = pattern.search(text)
      if found:
        wrong.append(f'the output has {found.group(0)!r}')
    for pattern in self.content.get('outputs') or ():
      paths = sorted(glob.glob(os.path.join(glob.escape(directory), pattern)))
      if not paths:
        wrong.append(f'output file {pattern}: there is none')
      for path in paths:
        with open(path, 'rb') as file:
          results[os.path.basename(path)] = ['sha256:' + hashlib.sha256(file.read()).hexdigest()]
    unit = 1000 if self.content.get('stall_unit') == 'ms' else 1
    def numbers(key):
      return [float(m.group(1)) for m in self.patterns[key].finditer(text)] if key in self.patterns else []
    times, stalls = numbers('time'), numbers('stall')
    return {'time_s': sum(times) if times else None, 'stall_s': max(stalls) / unit if stalls else None,
            'series': [{'name': name, 'unit': unit, 'points': sorted(
              (float(m['at']), float(m['value'])) for m in pattern.finditer(text))}
                       for name, unit, pattern in self.series],
            'results': results, 'wrong': wrong}

  def differences(self, results, reference):
    """In words, what is not as in the reference."""
    rules = {name: rule for name, _, rule in self.results}
    return [f'{name}: {shorten(results.get(name))} instead of {shorten(expected)}'
            for name, expected in reference.items()
            if not agree(results.get(name), expected, rules.get(name, 'equal'))]


def shorten(values):
  text = ', '.join(values or ['nothing'])
  return text if len(text) < 120 else text[:117] + '...'


def agree(values, expected, rule):
  if rule == 'equal' or values is None or len(values) != len(expected):
    return values == expected
  try:
    pairs = [(float(a), float(b)) for v, e in zip(values, expected)
             for a, b in zip(v.split(), e.split(), strict=True)]
  except ValueError:
    return False
  return all(abs(a - b) <= rule['within'] * abs(b) for a, b in pairs)


