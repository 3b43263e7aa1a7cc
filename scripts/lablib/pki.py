"""The lab's certificates: a CA of its own, made by `lifeboat pki`, and what each node gets of it."""
import os
import shutil
import subprocess

from lablib.base import LabError
from lablib.node import RUN_DIR

FILES = {'ca': f'{RUN_DIR}/ca.crt', 'cert': f'{RUN_DIR}/node.crt', 'key': f'{RUN_DIR}/node.key'}


class Pki:
  """In the directory of a lab; outlives its nodes."""

  def __init__(self, lab, build):
    self.directory = os.path.join(lab.directory, 'pki')
    self.program = os.path.join(build, 'lifeboat')

  def available(self):
    return os.access(self.program, os.X_OK)

  def path(self, name):
    return os.path.join(self.directory, name)

  def run(self, *words):
    done = subprocess.run([self.program, 'pki', '--dir', self.directory, *words], check=False,
                          capture_output=True, text=True)
    if done.returncode != 0:
      raise LabError(f'lifeboat pki {" ".join(words)}: {done.stderr.strip()}')

  def make(self, cluster, nodes):
    """What is not there yet."""
    if not os.path.exists(self.path('ca.key')):
      self.run('init', '--cluster', cluster)
    for node in nodes:
      if not os.path.exists(self.path(f'{node["name"]}.crt')):
        self.run('node', node['name'], '--role', node['role'])

  def install(self, node, root):
    """Into a node's own files, seen below `root`."""
    for source, target in ((f'{node}.key', FILES['key']), (f'{node}.crt', FILES['cert']),
                           ('ca.crt', FILES['ca'])):
      new = f'{root}{target}.new'
      shutil.copyfile(self.path(source), new)
      os.chmod(new, 0o600)
      os.rename(new, root + target)
