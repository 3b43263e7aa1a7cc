#!/usr/bin/python3
"""Man pages and bash completion against the programs they are of.

Every command and option of a program is in its page, and no other; every key that the program reads from
lifeboat.yaml is in lifeboat.yaml(5); man finds no fault with a page. Completion is asked in bash, as Tab would, of a
lab with a job. Exit status: 0 passed, 1 failed; the last line is "N passed, N failed, N skipped".

  tests/lab/manual_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

  LIFEBOAT_TEST_BUILD   where the programs are (default: build/dev/bin)
"""
import os
import re
import subprocess
import sys
import unittest

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test as operator
from operator_test import BUILD, ROOT

operator.COMPUTE = ('n1', 'n2')
operator.LAB_YAML = operator.FABRICS_YAML + '''
nodes:
  - {name: head, role: head}
  - {name: n1, memory: 8GiB}
  - {name: n2, memory: 8GiB}
'''
PAGES = {'lifeboat': 1, 'lifeboatd': 8, 'lifeboat-pager': 8, 'lifeboat-starter': 8, 'lifeboat-inject': 8, 'lifeboat-predict': 1,
         'lifeboat-campaign': 1}
CONFIG_PAGE = os.path.join(os.path.dirname(BUILD), 'lifeboat.yaml.5')
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]*')


def page(program):
  return os.path.join(ROOT, 'configs/man', f'{program}.{PAGES[program]}')


def text_of(path):
  with open(path, encoding='utf-8') as file:
    return file.read()


def program_help(program, *command):
  """What `PROGRAM COMMAND --help` prints."""
  done = subprocess.run([os.path.join(BUILD, program), *command, '--help'], text=True, check=False, timeout=30,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
  return done.stdout


def options(text):
  """Options that a help text offers: those a line begins with, and those of a usage line."""
  found = set()
  for line in text.splitlines():
    if line.lower().startswith('usage:'):
      found |= set(OPTION.findall(line))
    elif re.match(r' +-', line):
      found |= set(OPTION.findall(re.split(r'(?<=\S)  ', line.replace('Excludes:', '  '))[0]))
  return found


def commands(text):
  """Commands that a help text lists."""
  inside, found = False, []
  for line in text.splitlines():
    if re.match(r'Subcommands:|positional arguments:|usage: lifeboat-predict COMMAND', line):
      inside = True
    elif inside and not line.startswith(' '):
      inside = False
    elif inside and (match := re.match(r' {2,4}([a-z]+) ', line)):
      found.append(match[1])
  return found


def sections(path):
  """{command: options} of a page: a .SS begins with its command, what is outside of them is of ''. An option is
  documented by a tagged paragraph."""
  found, command, tag = {'': set()}, '', False
  for line in text_of(path).replace(r'\-', '-').splitlines():
    if line.startswith(('.SH', '.SS')):
      title = re.sub(r'^\.S[HS] *"?', '', line) if line.startswith('.SS') else ''
      command = ' '.join(re.match(r'(?:(?:node|pki) (?!NODE))?[a-z]*', title)[0].split())
      found.setdefault(command, set())
    elif tag:
      found[command] |= set(OPTION.findall(line))
    tag = line.startswith('.TP')
  return found


def paths(value, path=''):
  """The keys below a value, as a.b.c; entries of a list count as one, what a site names as none."""
  for item in value if isinstance(value, list) else [value]:
    if isinstance(item, dict) and path != 'nodes.addresses':
      for key, inner in item.items():
        name = f'{path}.{key}' if path else key
        yield name
        yield from paths(inner, name)


class Pages(unittest.TestCase):

  def test_man_finds_no_fault(self):
    for path in [*map(page, PAGES), CONFIG_PAGE]:
      with self.subTest(os.path.basename(path)):
        done = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', path], text=True,
                              capture_output=True, check=False, timeout=30)
        self.assertEqual((done.returncode, done.stderr), (0, ''))

  def all_commands(self, program):
    """Every command that takes options, the one without a name included."""
    top = program_help(program)
    for name in commands(top):
      inner = commands(program_help(program, name))
      if inner:
        yield from ((name, one) for one in inner)
      else:
        yield (name,)

  def test_options(self):
    for program in PAGES:
      told = sections(page(program))
      general = told.pop('')
      known = options(program_help(program))
      for group in ('pki', 'node') if program == 'lifeboat' else ():
        known |= options(program_help(program, group))
      with self.subTest(program):
        self.assertEqual(known - general, set(), 'options that the page does not have')
      names = list(self.all_commands(program))
      with self.subTest(program, commands=True):
        self.assertEqual(sorted(map(' '.join, names)), sorted(told))
      for name in names:
        with self.subTest(' '.join((program, *name))):
          offered = options(program_help(program, *name))
          self.assertNotEqual(offered, set())
          known |= offered
          self.assertEqual(offered - general - told.get(' '.join(name), set()), set(), 'not in the page')
          self.assertEqual(told.get(' '.join(name), set()) - offered, set(), 'not in the program')
      with self.subTest(program, general=True):
        self.assertEqual(general - known, set(), 'options that the program does not have')

  def test_keys(self):
    """Those that the parser reads, m.optional("state_dir", ...), and those of the file the page is made of."""
    keys = set(re.findall(r'^\.(?:SS|B) "([a-z_.]+)', text_of(CONFIG_PAGE), re.M))
    source = ''.join(text_of(os.path.join(ROOT, path)) for path in ('src/config.cpp', 'predictor/config.cpp',
                                                                'predictor/sources/sources.cpp'))
    names = set(re.findall(r'\b[a-z]\.\w+\(\s*"([a-z_]+)"', source))
    self.assertGreater(len(names), 80)
    self.assertEqual(names - {part for key in keys for part in key.split('.')}, set(), 'not in the page')
    shown = set(paths(yaml.safe_load(text_of(os.path.join(ROOT, 'configs/lifeboat.yaml')))))
    self.assertEqual(shown - keys, set(), 'not in the page')


class Completion(operator.Group):

  def ask(self, *words):
    """What bash offers for the last of the words."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}\n'
              'compopt() { :; }\n'   # only inside of a completion that Tab has begun
              'spec=$(complete -p "${1##*/}"); function=${spec##*-F }; ${function%% *} "$1" "${!#}" "${@: -2:1}"\n'
              'printf "%s\\n" "${COMPREPLY[@]}"')
    program = os.path.join(BUILD, words[0])
    done = subprocess.run(['bash', '-c', script, 'bash',
                           os.path.join(ROOT, 'configs/completion/lifeboat'), program, *words[1:]],
                          text=True, capture_output=True, check=False, timeout=30,
                          env={**os.environ, 'LIFEBOAT_SOCKET': self.socket()})
    self.assertEqual(done.stderr, '')
    return done.stdout.split()

  def offered(self, wanted, *words):
    """Of what a daemon tells, for which bash waits two seconds at most."""
    operator.wait_for(lambda: f'{wanted}: {self.ask(*words)}', 20, lambda: self.ask(*words) == wanted)

  def socket(self):
    return '/nowhere/api.sock'

  def test_static(self):
    with self.subTest('commands'):
      self.assertEqual(self.ask('lifeboat', 'mig'), ['migrate', 'migrations'])
      self.assertEqual(self.ask('lifeboat', 'node', ''), ['degrade', 'restore'])
      self.assertEqual(self.ask('lifeboat', 'pki', '--dir', '/x', ''), ['init', 'node', 'renew'])
      self.assertEqual(self.ask('lifeboat-predict', 're'), ['replay', 'record'])
    with self.subTest('options'):
      self.assertEqual(self.ask('lifeboat', 'migrate', 'x', '--d'), ['--dry-run'])
      self.assertEqual(self.ask('lifeboat', 'node', 'degrade', '--r'), ['--reason'])
      self.assertEqual(self.ask('lifeboatd', '--c'), ['--config', '--check-config'])
      self.assertEqual(self.ask('lifeboat-predict', 'replay', '--e'), ['--evidence'])
    with self.subTest('values'):
      self.assertEqual(self.ask('lifeboat', 'migrate', 'x', '--mode', 'p'), ['pre-copy', 'post-copy'])
      self.assertEqual(self.ask('lifeboat', 'pki', 'node', 'n1', '--role', ''), ['compute', 'head'])
    with self.subTest('without a daemon: nothing, and no error'):
      self.assertEqual(self.ask('lifeboat', 'migrate', ''), [])

  def test_names(self):
    self.socket = lambda: self.lab.inside('head', '/run/lifeboat/api.sock')
    with self.job('tab') as job:
      self.offered(['head', 'n1', 'n2'], 'lifeboat', 'evacuate', '')
      self.offered(['n1', 'n2'], 'lifeboat', 'migrate', 'tab-0', '--to', 'n')
      self.offered(['tab-0', 'tab-1'], 'lifeboat', 'migrate', 'tab')
      self.offered(['tab', 'tab-0', 'tab-1'], 'lifeboat', 'logs', 'tab')
      self.moved('tab-0', 'n2')
      self.socket = lambda: self.lab.inside('n1', '/run/lifeboat/api.sock')
      report = self.lab.api('GET', '/v1/migrations', node='n1')[1]['migrations'][-1]
      self.offered([report['id']], 'lifeboat', 'migrations', '')
      self.offered([report['id']], 'lifeboat', '--socket', self.socket(), 'resolve', '')
      self.assertIsNone(job.process.poll())


if __name__ == '__main__':
  sys.exit(operator.main(sys.modules[__name__]))
