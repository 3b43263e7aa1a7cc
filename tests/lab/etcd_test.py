#!/usr/bin/python3
"""The registry in an etcd cluster of three real servers, each of which is killed once.

  tests/lab/etcd_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

The servers live in the networks of n1, n2 and n3 and talk over the 10g fabric, with TLS.
"""
import os
import random
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from operator_test import Group, wait_for

MEMBERS = {'n1': '10.2.0.11', 'n2': '10.2.0.12', 'n3': '10.2.0.13'}
URLS = ', '.join(f"'https://{address}:2379'" for address in MEMBERS.values())
operator_test.COMPUTE = ('n1', 'n2', 'n3')
operator_test.LAB_YAML = operator_test.THREE_NODES_YAML + f'''
lifeboat:
  timeouts: {{connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 8s, commit: 5s}}
  registry: {{kind: etcd, endpoints: [{URLS}], ca: WORK/pki/ca.crt, cert: WORK/pki/node.crt,
             key: WORK/pki/node.key, timeout: 4s, lease: 4s}}
  health: {{probation: 0s}}
'''

PKI = '''
set -e
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $key -subj /CN=ca -days 2 -keyout ca.key -out ca.crt
make() {
  openssl req $key -subj "/CN=$1" -keyout $1.key -out $1.csr
  printf "subjectAltName=IP:$2\\nextendedKeyUsage=serverAuth,clientAuth\\n" > $1.ext
  openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.crt
}
'''


class Etcd(Group):
  servers = {}

  def setUp(self):
    made = self.lab.dirty
    pki = os.path.join(self.lab.work, 'pki')
    if not os.path.isdir(pki):
      os.makedirs(pki, mode=0o700)
      script = PKI + ''.join(f'make {name} {address}\n' for name, address in
                             (*MEMBERS.items(), ('node', '127.0.0.1')))
      subprocess.run(['sh', '-c', script], cwd=pki, check=True, capture_output=True, timeout=30)
    super().setUp()
    if made:
      self.stop_all()
      shutil.rmtree(os.path.join(self.lab.work, 'etcd'), ignore_errors=True)
      for node in MEMBERS:
        self.start(node)
    self.ready()

  @classmethod
  def stop_all(cls):
    for node in list(cls.servers):
      cls.kill(node)

  tearDownClass = stop_all

  @classmethod
  def kill(cls, node):
    server = cls.servers.pop(node, None)
    if server is not None:
      server.kill()
      server.wait()

  def start(self, node):
    data = os.path.join(self.lab.work, 'etcd', node)
    os.makedirs(data, mode=0o700, exist_ok=True)
    pki = os.path.join(self.lab.work, 'pki')
    client, peer = f'https://{MEMBERS[node]}:2379', f'https://{MEMBERS[node]}:2380'
    self.servers[node] = subprocess.Popen(
      ['nsenter', '-t', str(self.lab.pid(node)), '-n', 'etcd', '--name', node, '--data-dir', data,
       '--logger', 'zap', '--log-level', 'error',
       '--listen-client-urls', client, '--advertise-client-urls', client,
       '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer,
       '--initial-cluster', ','.join(f'{name}=https://{address}:2380' for name, address in MEMBERS.items()),
       '--initial-cluster-token', self.lab.name, '--client-cert-auth', '--trusted-ca-file', f'{pki}/ca.crt',
       '--cert-file', f'{pki}/{node}.crt', '--key-file', f'{pki}/{node}.key', '--peer-client-cert-auth',
       '--peer-trusted-ca-file', f'{pki}/ca.crt', '--peer-cert-file', f'{pki}/{node}.crt',
       '--peer-key-file', f'{pki}/{node}.key', '--heartbeat-interval', '100', '--election-timeout', '1000',
       '--pre-vote=true'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

  def ready(self):
    """Every member answers, and every daemon has its lease."""
    pki = os.path.join(self.lab.work, 'pki')
    endpoints = ','.join(f'https://{address}:2379' for address in MEMBERS.values())

    def etcdctl(*args):
      return subprocess.run(
        ['nsenter', '-t', str(self.lab.pid('head')), '-n', 'etcdctl', '--command-timeout=2s',
         f'--endpoints={endpoints}', f'--cacert={pki}/ca.crt', f'--cert={pki}/node.crt', f'--key={pki}/node.key',
         *args], env={**os.environ, 'ETCDCTL_API': '3'}, text=True, capture_output=True, check=False, timeout=20)
    wait_for('three members', 30, lambda: etcdctl('endpoint', 'health').returncode == 0, 0.2)
    wait_for('the nodes\' leases', 30, lambda: etcdctl(
      'get', '--prefix', '--keys-only', f'/lifeboat/{self.cluster_name()}/node/').stdout.count('/node/') == 4, 0.2)

  def cluster_name(self):
    import yaml
    with open(f'/proc/{self.lab.pid("head")}/root/run/lifeboat/lifeboat.yaml', encoding='utf-8') as file:
      return yaml.safe_load(file)['cluster']

  def test_etcd(self):
    with self.job('etcd') as job:
      for member in MEMBERS:
        with self.subTest(f'the etcd server on {member} is killed in the middle of a migration'):
          source = self.lab.settled('etcd-1', job.ranks)
          migration = self.lab.start_migration('etcd-1', self.elsewhere(source))
          time.sleep(random.uniform(0, 0.6))
          self.kill(member)
          report = self.over(migration)
          node = self.lab.settled('etcd-1', job.ranks)
          self.assertEqual(node, report['target'] if report['outcome'] == 'committed' else source, report)
        with self.subTest(f'without the one on {member} containers move, and daemons start again'):
          self.moved('etcd-1', self.elsewhere(self.lab.settled('etcd-1', job.ranks)))
          node = self.lab.settled('etcd-1', job.ranks)
          self.lab.crash(node)
          self.lab.must('daemon', node, 'start')
          self.moved('etcd-1', self.elsewhere(node))
        self.start(member)
        self.ready()
      with self.subTest('without a majority nothing begins; with it, it moves again'):
        source = self.lab.settled('etcd-1', job.ranks)
        self.kill('n1')
        self.kill('n2')
        report = self.over(self.lab.start_migration('etcd-1', self.elsewhere(source)))
        self.assertEqual(report['outcome'], 'aborted', report)
        self.assertIn('no migration can begin without the registry', report['error'])
        self.runs_on('etcd-1', source, job)
        self.start('n1')
        self.start('n2')
        self.ready()
        self.moved('etcd-1', self.elsewhere(source))


if __name__ == '__main__':
  for tool in ('etcd', 'etcdctl', 'openssl'):
    if not shutil.which(tool):
      operator_test.skip(f'{tool} is not installed')
  try:
    code = operator_test.main(sys.modules['__main__'])
  finally:
    Etcd.stop_all()
  sys.exit(code)
