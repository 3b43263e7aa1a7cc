#!/usr/bin/python3
"""The page to watch, in a real browser (headless Chromium) against a lab with a real job.

  tests/lab/page_test.py [GROUP...]     as tests/lab/operator_test.py, which explains the rest

  LIFEBOAT_TEST_SHOTS   directory for screenshots, to be looked at (default: none are made)
"""
import base64
import contextlib
import ctypes
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import operator_test
from operator_test import Group, skip, wait_for

try:
  from selenium import webdriver
  from selenium.webdriver.chrome.service import Service
  from selenium.webdriver.common.keys import Keys
except ImportError:
  skip('there is no python3-selenium: scripts/setup --browser')

DRIVER = '/usr/bin/chromedriver'
TOKEN = 'a-token.of~this+test/0123456789='
operator_test.COMPUTE = ('n1', 'n2', 'n3')
operator_test.LAB_YAML = operator_test.FABRICS_YAML + '''
nodes:
  - {name: head, role: head, lifeboat: {page: {listen: 0.0.0.0:9465, token_file: WORK/token}}}
  - {name: n1, memory: 8GiB, slots: 8, lifeboat: {page: {listen: 127.0.0.1:9465}}}
  - {name: n2, memory: 8GiB, slots: 8}
  - {name: n3, memory: 8GiB, slots: 8}
lifeboat:
  timeouts: {connect: 2s, request: 5s, dump: 20s, idle: 3s, restore: 20s, commit: 3s}
  health: {probation: 0s}
  evacuation: {automatic: false}
'''

PARTS = ('freeze', 'dump', 'transfer', 'restore', 'network', 'resume')

# Every element with a text of its own, and its contrast (WCAG 2.2, 1.4.3) with what is behind it.
CONTRASTS = '''
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll('body *')]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.tagName + ' ' + e.textContent.slice(0, 40)];
  });
'''

# What the Tab key must reach, and where it is.
FOCUSABLE = '''
const all = [...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')];
return all.filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.closest('[hidden]')).length;
'''
FOCUSED = '''
const e = document.activeElement;
if (e === document.body) return null;
e.dataset.reached = (Number(e.dataset.reached) || 0) + 1;
const box = e.getBoundingClientRect(), style = getComputedStyle(e);
return {again: e.dataset.reached > 1, wide: box.width > 0 && box.height > 0,
        seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        name: e.tagName + ' ' + (e.getAttribute('aria-label') || e.textContent).slice(0, 60)};
'''


def as_shown(ms):
  """A downtime as the page tells it."""
  return f'{ms:.0f} ms' if ms < 10_000 else f'{ms / 1000:.1f} s'


class Relay:
  """A port of this machine for what `connect` gives, as `ssh -L` makes one."""

  def __init__(self, connect):
    self.connect = connect
    self.listener = socket.create_server(('127.0.0.1', 0))
    self.port = self.listener.getsockname()[1]
    threading.Thread(target=self.accept, daemon=True).start()

  def accept(self):
    with contextlib.suppress(OSError):
      while True:
        client = self.listener.accept()[0]
        threading.Thread(target=self.serve, args=(client,), daemon=True).start()

  def serve(self, client):
    with client, contextlib.suppress(OSError), self.connect() as server:
      threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
      self.pump(server, client)

  def pump(self, source, to):
    with contextlib.suppress(OSError):
      while part := source.recv(65536):
        to.sendall(part)
    for end in (source, to):
      with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

  def close(self):
    self.listener.close()


class Page(Group):

  def setUp(self):
    self.lab.write('token', TOKEN + '\n', 0o600)
    super().setUp()

  def to_socket(self):
    def connect():
      sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
      sock.connect(self.lab.inside('head', '/run/lifeboat/api.sock'))
      return sock
    return contextlib.closing(Relay(connect))

  def to_port(self, node):
    def connect():
      with open(f'/proc/{self.lab.pid(node)}/ns/net', encoding='ascii') as namespace:
        if ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) != 0:  # of this thread
          raise OSError('setns')
      return socket.create_connection(('127.0.0.1', 9465), 10)
    return contextlib.closing(Relay(connect))

  @contextlib.contextmanager
  def browser(self):
    options = webdriver.ChromeOptions()
    for argument in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                     '--hide-scrollbars', f'--user-data-dir={self.lab.work}/browser'):
      options.add_argument(argument)
    options.set_capability('acceptInsecureCerts', True)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.set_script_timeout(10)
    try:
      yield driver
    finally:
      driver.quit()

  def look(self, driver, width, height, scheme='light'):
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
                           {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False})
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia',
                           {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})

  def shot(self, driver, name):
    where = os.environ.get('LIFEBOAT_TEST_SHOTS')
    if where:
      png = driver.execute_cdp_cmd('Page.captureScreenshot', {'format': 'png'})['data']
      with open(os.path.join(where, name + '.png'), 'wb') as file:
        file.write(base64.b64decode(png))

  def text(self, driver, selector):
    """What a person sees there."""
    return driver.execute_script('return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)'
                                 '.join("\\n")', selector)

  def shows(self, driver, selector, wanted, seconds=10):
    wait_for(lambda: f'{wanted!r} in {self.text(driver, selector)!r}', seconds,
             lambda: wanted in self.text(driver, selector), pause=0.1)

  def check_layout(self, driver):
    for width, height, scheme in ((1280, 900, 'light'), (1280, 900, 'dark'), (360, 740, 'light'),
                                  (320, 640, 'dark')):
      with self.subTest(f'{width} pixels wide, {scheme}: no sideways scroll, contrast'):
        self.look(driver, width, height, scheme)
        time.sleep(0.2)
        self.shot(driver, f'{width}-{scheme}')
        self.assertLessEqual(driver.execute_script('return document.documentElement.scrollWidth'), width)
        contrasts = driver.execute_script(CONTRASTS)
        self.assertGreater(len(contrasts), 40)
        self.assertEqual([one for one in contrasts if one[0] < 4.5], [])
    with self.subTest('text twice as large: no sideways scroll'):
      driver.execute_script('document.documentElement.style.fontSize = "200%"')
      self.assertLessEqual(driver.execute_script('return document.documentElement.scrollWidth'), 320)
      driver.execute_script('document.documentElement.style.fontSize = ""')
    self.look(driver, 1280, 900)

  def check_keyboard(self, driver):
    driver.refresh()  # so that Tab begins at the top
    self.shows(driver, '#history-table', 'committed')
    count = driver.execute_script(FOCUSABLE)
    reached = []
    while len(reached) <= count + 2:
      driver.switch_to.active_element.send_keys(Keys.TAB)
      now = driver.execute_script(FOCUSED)
      if now is None or now['again']:
        break
      reached.append(now)
    self.assertEqual(len(reached), count, reached)
    self.assertGreaterEqual(count, 10)  # skip link, sections, plans, the bar
    self.assertEqual(reached[0]['name'], 'A Skip to the cluster')
    self.assertEqual([one for one in reached if not (one['seen'] and one['wide'])], [])

  def check_move(self, driver, container, to):
    """A migration over the slow fabric, seen live and then in the history."""
    migration = self.lab.start_migration(container, to, '100m')
    # HPL writes faster than this fabric carries, so the rounds may be over between two looks of the page.
    phase = re.compile(rf'{container}.*(pre-copy, round \d|freeze|dump|transfer)', re.S)
    words = ('sent', 'left', 'eta', 'dirty rate', 'wire rate', 'expected downtime', 'over 100m')
    def live():
      moves, nodes = driver.execute_script(
        'return ["move-list", "node-list"].map((id) => document.getElementById(id).innerText)')
      return (phase.search(moves) and all(word in moves.lower() for word in words) and
              f'{container} \u2192 {to}' in nodes)
    wait_for(lambda: f'it, its phase and figures: {self.text(driver, "#move-list, #node-list")}', 10, live)
    self.shot(driver, 'migration')
    report = self.over(migration)
    self.assertEqual(report['outcome'], 'committed', report)
    self.shows(driver, '#history-table tbody tr:first-child', container)
    wait_for('nothing under way', 10, lambda: not self.text(driver, '#move-list'))
    self.shows(driver, '#history-table tbody tr:first-child', as_shown(report['downtime_ms']))
    row = self.text(driver, '#history-table tbody tr:first-child')
    for text in (f'{report["source"]} \u2192 {to}', 'pre-copy, 100m', 'committed'):
      self.assertIn(text, row)
    self.shows(driver, '#container-table', f'{container}\t{to}')
    return report

  def check_split(self, driver, report):
    """Its parts in figures: on focus, and as the name of the bar."""
    split = driver.find_element('css selector', '#history-table .split')
    told = ', '.join(f'{part} {report["downtime_parts_ms"][part]:.1f} ms' for part in PARTS)
    self.assertEqual(split.get_attribute('aria-label'), f'Downtime {as_shown(report["downtime_ms"])}: {told}')
    tip = split.find_element('css selector', '.tip')
    self.assertFalse(tip.is_displayed())
    driver.execute_script('arguments[0].focus()', split)
    self.assertTrue(tip.is_displayed())
    self.shot(driver, 'split')
    self.assertEqual(tip.text.split(), ' '.join(f'{part} {report["downtime_parts_ms"][part]:.1f} ms'
                                                for part in PARTS).split())
    split.send_keys(Keys.ESCAPE)
    self.assertFalse(tip.is_displayed())
    # The same figures as the command's.
    code, out, error = self.lab.run('exec', report['source'], 'lifeboat', 'migrations', '--json')
    self.assertEqual(code, 0, error)
    listed = [one for one in json.loads(out)['migrations'] if one['id'] == report['id']]
    self.assertEqual([(one['downtime_ms'], one['downtime_parts_ms']) for one in listed],
                     [(report['downtime_ms'], report['downtime_parts_ms'])])

  def check_plan(self, driver, node, container):
    plan = driver.find_element('xpath', f'//summary[.="If {node} were left now"]')
    plan.send_keys(Keys.ENTER)
    self.shows(driver, 'details[open]', 'A plan: nothing is moved.')
    self.assertIn(f'{container} \u2192 n', self.text(driver, 'details[open]'))
    self.assertEqual(self.lab.where(container), [node])
    self.shot(driver, 'plan')
    plan.send_keys(Keys.ENTER)

  def check_degraded(self, driver):
    reason = '<img src=x onerror=document.title=1> & <b>fans</b>'
    code, out, error = self.lab.lifeboat('node', 'degrade', 'n2', '--reason', reason)
    self.assertEqual(code, 0, out + error)
    self.shows(driver, '#node-list .degraded', reason)
    self.shows(driver, '#node-list .degraded', '\u25b2 degraded')
    self.shows(driver, '#news', 'n2 is degraded.')
    self.shows(driver, '#event-table', 'n2 is degraded')
    self.assertEqual(driver.find_elements('css selector', 'main img, main b'), [])
    self.assertIn('n2 not up', driver.title)
    self.shot(driver, 'degraded')
    self.lab.lifeboat('node', 'restore', 'n2')
    self.shows(driver, '#news', 'n2 is up.')

  def test_stale(self):
    with self.to_socket() as relay, self.browser() as driver:
      self.look(driver, 1280, 900)
      driver.get(f'http://localhost:{relay.port}/')
      self.shows(driver, '#fresh', 'Live, ')
      with self.subTest('the daemon is stopped: the page says so, and what it shows stays'):
        self.assertFalse(driver.find_element('id', 'stale').is_displayed())
        self.lab.must('daemon', 'head', 'stop')
        self.shows(driver, '#stale', 'the daemon does not answer. What is shown is of ')
        self.assertIn('old', self.text(driver, '#fresh'))
        self.assertIn('n3', self.text(driver, '#node-list'))
        self.shot(driver, 'stale')
      with self.subTest('it is started again'):
        self.lab.must('daemon', 'head', 'start')
        self.shows(driver, '#fresh', 'Live, ', 20)
        self.assertFalse(driver.find_element('id', 'stale').is_displayed())

  def test_socket(self):
    with self.job('pg', n=4000) as job, self.to_socket() as relay, self.browser() as driver:
      self.look(driver, 1280, 900)
      driver.get(f'http://localhost:{relay.port}/')
      with self.subTest('nodes and containers as lifeboat nodes tells them'):
        self.shows(driver, '#fresh', 'Live, ')
        nodes = json.loads(self.lab.lifeboat('nodes', '--json')[1])['nodes']
        shown = driver.execute_script('return [...document.querySelectorAll("#node-list > li")]'
                                      '.map((e) => e.innerText)')
        self.assertEqual(len(shown), len(nodes))
        for node, text in zip(nodes, shown):
          self.assertTrue(text.startswith(node['name']), text)
          self.assertIn('\u25cf up', text)
          if node['role'] != 'head':
            self.assertIn(f'{node["slots"] - node["slots_free"]} of {node["slots"]} slots', text)
          for container in node['containers']:
            self.assertIn(container['id'], text)
      with self.subTest('a migration, live and then in the history'):
        report = self.check_move(driver, 'pg-0', 'n3')
      with self.subTest('its downtime in parts, as lifeboat migrations tells it'):
        self.check_split(driver, report)
      with self.subTest('what would leave a node'):
        self.check_plan(driver, 'n3', 'pg-0')
      with self.subTest('a node is degraded for a reason with HTML in it'):
        self.check_degraded(driver)
      self.check_layout(driver)
      with self.subTest('Tab reaches everything, and one sees where it is'):
        self.check_keyboard(driver)
      with self.subTest('nothing on the console, nothing against the policy'):
        self.assertEqual(driver.get_log('browser'), [])
      self.assertEqual(self.lab.settled('pg-0', job.ranks), 'n3')

  # ---- who may look

  def ask(self, relay, method, path, host='head', tls='head', body=None, **headers):
    """(status, headers, text); `tls`: whose certificate is expected, if any."""
    connection = http.client.HTTPConnection('127.0.0.1', relay.port, timeout=20)
    if tls:
      context = ssl.create_default_context(cafile=f'{self.lab.state().directory}/pki/ca.crt')
      connection.connect()
      connection.sock = context.wrap_socket(connection.sock, server_hostname=tls)
      self.assertEqual(connection.sock.version(), 'TLSv1.3')
    with contextlib.closing(connection):
      connection.request(method, path, body, {'Host': host, **{k.replace('_', '-'): v for k, v in headers.items()}})
      answer = connection.getresponse()
      return answer.status, answer.headers, answer.read().decode()

  def test_port(self):
    bearer = {'Authorization': f'Bearer {TOKEN}'}
    with self.to_port('head') as relay:
      with self.subTest('TLS 1.3 with the certificate of the node, or nothing'):
        self.assertEqual(self.ask(relay, 'GET', '/page.css')[0], 200)
        old = ssl.create_default_context(cafile=f'{self.lab.state().directory}/pki/ca.crt')
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(('127.0.0.1', relay.port), 10) as sock, self.assertRaises(OSError):
          old.wrap_socket(sock, server_hostname='head')
        with self.assertRaises((OSError, http.client.HTTPException)):
          self.ask(relay, 'GET', '/page.css', tls=None)
      with self.subTest('without the token there is only the form'):
        status, headers, text = self.ask(relay, 'GET', '/')
        self.assertEqual((status, headers['WWW-Authenticate']), (401, 'Bearer'))
        self.assertIn('action="/login"', text)
        status, headers, text = self.ask(relay, 'GET', '/v1/view')
        self.assertEqual((status, text), (401, 'it takes the token (page.token_file)\n'))
      with self.subTest('with it, what the page shows, and nothing that orders'):
        status, headers, text = self.ask(relay, 'GET', '/v1/view', **bearer)
        self.assertEqual((status, [node['name'] for node in json.loads(text)['nodes']]),
                         (200, ['head', 'n1', 'n2', 'n3']))
        for name, value in (('Cache-Control', 'no-store'), ('X-Content-Type-Options', 'nosniff'),
                            ('Referrer-Policy', 'no-referrer')):
          self.assertEqual(headers[name], value)
        self.assertIn("default-src 'none'", headers['Content-Security-Policy'])
        self.assertEqual(self.ask(relay, 'GET', '/v1/nodes/n1/plan', **bearer)[0], 200)
        for method, path, wanted in (('GET', '/v1/nodes', 404), ('GET', '/v1/containers/x/logs', 404),
                                     ('GET', '/../etc/passwd', 404), ('POST', '/v1/nodes/n1/degrade', 405),
                                     ('POST', '/v1/nodes/n1/plan', 405), ('DELETE', '/', 405)):
          self.assertEqual(self.ask(relay, method, path, **bearer)[0], wanted, path)
      with self.subTest('a wrong token takes its time, more of them more; the right one waits for nobody'):
        begin = time.monotonic()
        wrong = [threading.Thread(target=self.ask, args=(relay, 'GET', '/v1/view'),
                                  kwargs={'Authorization': f'Bearer {TOKEN}{i}'}) for i in range(14)]
        for one in wrong:
          one.start()
        time.sleep(0.2)
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', **bearer)[0], 200)
        self.assertTrue(any(one.is_alive() for one in wrong))
        for one in wrong:
          one.join()
        self.assertGreater(time.monotonic() - begin, 6)
        self.assertIn('a wrong token for the page from=127.0.0.1', self.lab.log('head'))
        self.assertNotIn(TOKEN, self.lab.log('head'))
      with self.subTest('too much, too many'):
        with self.assertRaises((OSError, http.client.HTTPException)):
          self.ask(relay, 'GET', '/', X='x' * 9000)
        with self.assertRaises((OSError, http.client.HTTPException)):
          self.ask(relay, 'POST', '/login', body='token=' + 'x' * 2000)
        silent = [socket.create_connection(('127.0.0.1', relay.port), 10) for _ in range(17)]
        wait_for('one too many from one address is closed', 5, lambda: any(self.closed(one) for one in silent))
        for one in silent:
          one.close()
      with self.subTest('another token counts at once'):
        self.lab.write('token', 'another' + TOKEN + '\n', 0o600)
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', **bearer)[0], 401)
        self.lab.write('token', TOKEN + '\n', 0o600)
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', **bearer)[0], 200)
      with self.subTest('a browser logs in by the form'), self.browser() as driver:
        self.look(driver, 360, 740)
        driver.get(f'https://localhost:{relay.port}/')
        self.shot(driver, 'login')
        driver.find_element('id', 'token').send_keys('wrong' + TOKEN + Keys.ENTER)
        wait_for('the form again', 10, lambda: driver.find_element('id', 'token').get_attribute('value') == '')
        driver.find_element('id', 'token').send_keys(TOKEN + Keys.ENTER)
        self.shows(driver, '#fresh', 'Live, ')
        cookie = driver.get_cookie('lifeboat-page')
        self.assertEqual([cookie.get(key) for key in ('value', 'httpOnly', 'secure', 'sameSite', 'expiry')],
                         [TOKEN, True, True, 'Strict', None])
        self.assertEqual(driver.execute_script('return document.cookie'), '')

  def closed(self, sock):
    sock.settimeout(0.05)
    try:
      return sock.recv(1) == b''
    except TimeoutError:
      return False
    except OSError:
      return True

  def test_local(self):
    with self.to_port('n1') as relay:
      with self.subTest('a loopback address without a token'):
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', 'localhost:9465', 'n1')[0], 200)
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', '127.0.0.1', 'n1')[0], 200)
      with self.subTest('a web site that gives this address a name of its own gets nothing'):
        self.assertEqual(self.ask(relay, 'GET', '/v1/view', 'site.example', 'n1')[0], 403)
    with self.to_socket() as relay:
      with self.subTest('nor at the operator\'s socket'):
        self.assertEqual(self.ask(relay, 'GET', '/v1/nodes', 'site.example', tls=None)[0], 403)
        self.assertEqual(self.ask(relay, 'GET', '/v1/nodes', 'localhost:8080', tls=None)[0], 200)
      with self.subTest('a page of somebody else cannot have a browser give orders there'):
        order = {'body': json.dumps({'reason': 'x'}), 'Origin': 'http://site.example'}
        status, _, text = self.ask(relay, 'POST', '/v1/nodes/n2/degrade', 'localhost:8080', tls=None, **order)
        self.assertEqual(status, 403, text)
        self.assertIn('a browser may look, and order nothing', text)
        self.assertEqual(self.lab.api('GET', '/v1/nodes/n2')[1]['state'], 'up')
    with self.subTest('an address that all can reach needs a token, and the token a file for root alone'):
      self.lab.must('daemon', 'head', 'stop')
      os.chmod(f'{self.lab.work}/token', 0o644)
      code, out, error = self.lab.run('daemon', 'head', 'start')
      self.assertNotEqual(code, 0, out + error)
      self.assertIn('is not root\'s alone; chown root and chmod 600 it', self.lab.log('head'))
      os.chmod(f'{self.lab.work}/token', 0o600)
      self.lab.must('daemon', 'head', 'start')


if __name__ == '__main__':
  if not os.access(DRIVER, os.X_OK):
    skip('there is no chromium-driver: scripts/setup --browser')
  sys.exit(operator_test.main(sys.modules[__name__]))
