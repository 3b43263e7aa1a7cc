// The page: asks the daemon for /v1/view and shows it. All text is set as text; names come from elsewhere.
'use strict';

const LIVE_MS = 1000;       // between two answers while something moves
const CALM_MS = 2000;
const HIDDEN_MS = 15000;
const STALE_MS = 6000;      // without an answer for so long, what is shown is called old
const LIMIT_MS = 8000;      // of one request
const FEW = 10;             // rows of a list before the rest is asked for

const $ = (id) => document.getElementById(id);

// ---- text of values ---------------------------------------------------------------------------------------------

const fixed = (value, digits) => value.toFixed(digits);

function bytes(n) {
  const mib = n / 1048576;
  if (mib >= 1024) return `${fixed(mib / 1024, mib < 10240 ? 1 : 0)} GiB`;
  return `${fixed(mib, mib > 0 && mib < 10 ? 1 : 0)} MiB`;
}

const rate = (n) => `${fixed(n / 1e6, 0)} MB/s`;

// A downtime is told to the millisecond, as by the commands.
function ms(value) {
  return value < 10000 ? `${fixed(value, 0)} ms` : `${fixed(value / 1000, 1)} s`;
}

function seconds(value) {
  if (value < 10) return `${fixed(value, 1)} s`;
  if (value < 120) return `${fixed(value, 0)} s`;
  return value < 7200 ? `${fixed(value / 60, 0)} min` : `${fixed(value / 3600, value < 36000 ? 1 : 0)} h`;
}

function clock(when) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return '';
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date().toDateString() ? time
    : `${date.toLocaleDateString('en-CA')} ${time}`;
}

const firstLine = (text) => (text || '').split('\n')[0];

// ---- elements ---------------------------------------------------------------------------------------------------

function make(tag, classes, ...inside) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...inside);
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showText(element, text) {
  say(element, text);
  element.hidden = !text;
}

// Shows `items` as children of `parent`: one element for each key, kept while it is there, so that focus and what
// is opened stay.
function keyed(parent, items, keyOf, create, update) {
  const before = parent.kept || new Map();
  const kept = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (kept.has(key)) continue;
    const element = before.get(key) || create(item);
    kept.set(key, element);
    update(element, item);
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
  }
  for (const [key, element] of before) if (!kept.has(key)) element.remove();
  parent.kept = kept;
}

// Columns: {head, cell: (item) => text, show: (td, item), kind: class}. The roles are said, as a narrow screen lays
// the cells out in another way.
function table(place, caption, columns, items, keyOf) {
  let body = place.querySelector('tbody');
  if (!body) {
    const head = make('tr');
    head.setAttribute('role', 'row');
    for (const column of columns) {
      const th = make('th', column.kind === 'n' ? 'n' : '', column.head);
      th.scope = 'col';
      th.setAttribute('role', 'columnheader');
      head.append(th);
    }
    body = make('tbody');
    const whole = make('table', '', make('caption', 'unseen', caption), make('thead', '', head), body);
    whole.setAttribute('role', 'table');
    body.setAttribute('role', 'rowgroup');
    head.parentNode.setAttribute('role', 'rowgroup');
    place.append(whole);
  }
  const create = () => {
    const row = make('tr');
    row.setAttribute('role', 'row');
    for (const column of columns) {
      const td = make('td', column.kind);
      td.setAttribute('role', 'cell');
      if (column.label) td.dataset.label = column.label;
      row.append(td);
    }
    return row;
  };
  keyed(body, items, keyOf, create, (row, item) => columns.forEach((column, i) => {
    if (column.show) column.show(row.children[i], item);
    else say(row.children[i], column.cell(item));
  }));
}

// ---- all of it --------------------------------------------------------------------------------------------------

const open = {history: false, events: false};

// The first few, or all once they were asked for.
function some(name, items, button) {
  button.hidden = items.length <= FEW;
  say(button, open[name] ? `Show the newest ${FEW}` : `Show all ${items.length}`);
  return open[name] ? items : items.slice(0, FEW);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}

const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

function figuresOf(view) {
  const up = view.nodes.filter((node) => stateOf(node) === 'up').length;
  const list = view.nodes.flatMap((node) => node.containers || []).filter((one) => one.state !== 'arriving');
  const moves = view.nodes.flatMap((node) => node.migrations || []);
  const queued = moves.filter((move) => move.phase === 'queued').length;
  const committed = view.migrations.filter((move) => move.outcome === 'committed');
  const times = committed.map((move) => move.downtime_ms).filter(Boolean);  // unknown if its source died
  const jobs = new Set(list.map((one) => one.job).filter(Boolean)).size;
  return [
    ['nodes up', `${up}`, `of ${view.nodes.length}`],
    ['containers', `${list.length}`, jobs ? `in ${plural(jobs, 'job', 'jobs')}` : ''],
    ['under way', `${moves.length - queued}`, queued ? `+ ${queued} queued` : ''],
    ['median downtime', times.length ? ms(median(times)) : '\u2013',
     times.length > 1 ? `of the last ${times.length}` : ''],
  ];
}

function filtered(nodes) {
  $('filter').hidden = nodes.length <= 12;
  const wanted = $('filter-text').value.trim().toLowerCase();
  if (!wanted || $('filter').hidden) return nodes;
  const texts = (node) => [node.name, stateOf(node), ...(node.containers || []).flatMap((one) => [one.id, one.job])];
  return nodes.filter((node) => texts(node).some((text) => text && text.toLowerCase().includes(wanted)));
}

const ORDER = {down: 0, silent: 1, degraded: 2, up: 3};

function show(view) {
  say($('cluster'), view.cluster);
  keyed($('figures'), figuresOf(view), (one) => one[0],
        (one) => make('div', '', make('dt', '', one[0]), make('dd', '', make('span'), make('small'))),
        (box, one) => {
          say(box.lastChild.firstChild, one[1]);
          say(box.lastChild.lastChild, one[2] ? ` ${one[2]}` : '');
        });
  const nodes = filtered(view.nodes);
  // What is not well comes first where there are too many to see at a glance.
  if (nodes.length > 12) nodes.sort((a, b) => ORDER[stateOf(a)] - ORDER[stateOf(b)]);
  keyed($('node-list'), nodes, (node) => node.name, createNode, updateNode);

  const moves = view.nodes.flatMap((node) => node.migrations || []);
  keyed($('move-list'), moves, (move) => move.id, createMove, updateMove);
  $('move-none').hidden = moves.length > 0;

  const going = new Set(moves.map((move) => move.id));
  const over = view.migrations.filter((move) => !going.has(move.id) && move.outcome !== 'running').reverse();
  table($('history-table'), 'Migrations that are over, newest first', HISTORY,
        some('history', over, $('history-more')), (move) => move.id);
  $('history-table').hidden = $('legend').hidden = over.length === 0;
  $('history-none').hidden = over.length > 0;

  const list = view.nodes.flatMap((node) => node.containers || []);
  list.sort((a, b) => a.id.localeCompare(b.id, 'en', {numeric: true}));
  table($('container-table'), 'Containers', CONTAINERS, list, (one) => `${one.id} ${one.node}`);
  $('container-table').hidden = list.length === 0;
  $('container-none').hidden = list.length > 0;

  const events = [...view.events].reverse();
  table($('event-table'), 'Events of the last day, newest first', EVENTS, some('events', events, $('events-more')),
        (event) => `${event.t} ${event.node} ${event.event} ${event.of || event.migration}`);
  $('event-table').hidden = events.length === 0;
  $('event-none').hidden = events.length > 0;

  const silent = view.silent.length ? ` What ${view.silent.join(', ')} would say of the past is missing.` : '';
  say($('about'), `As node ${view.node} sees it. Lifeboat ${view.version}.${silent}`);
  const unwell = view.nodes.filter((node) => stateOf(node) !== 'up');
  const names = unwell.slice(0, 3).map((node) => node.name).join(', ');
  document.title = `${names ? `${names} not up \u2013 ` : ''}Lifeboat ${view.cluster}`;
}

// Said aloud by a screen reader: states and ends, no numbers that run.
function tellNews(before, view) {
  const news = [];
  const states = new Map(before.nodes.map((node) => [node.name, stateOf(node)]));
  for (const node of view.nodes) {
    const state = stateOf(node);
    if (states.has(node.name) && states.get(node.name) !== state) news.push(`${node.name} is ${state}.`);
  }
  const known = new Set(before.migrations.map((move) => move.id + move.outcome));
  for (const move of view.migrations) {
    if (known.has(move.id + move.outcome) || move.outcome === 'running') continue;
    news.push(`${move.container} to ${move.target}: ${move.outcome}`
      + `${move.downtime_ms ? `, downtime ${ms(move.downtime_ms)}` : ''}.`);
  }
  if (news.length) say($('news'), news.join(' '));
}

// ---- asking -----------------------------------------------------------------------------------------------------

async function get(path) {
  const answer = await fetch(path, {signal: AbortSignal.timeout(LIMIT_MS), cache: 'no-store'})
    .catch(() => { throw new Error('the daemon does not answer'); });
  if (answer.status === 401) location.reload();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ? body.error.message : `HTTP status ${answer.status}`);
  return body;
}

let last = null;        // the view that is shown
let answeredAt = performance.now();
let failures = 0;
let problem = '';
let timer = 0;
let asking = false;

function pause() {
  if (failures > 0) return Math.min(1000 * 2 ** (failures - 1), HIDDEN_MS);
  if (document.hidden) return HIDDEN_MS;
  return last && last.nodes.some((node) => (node.migrations || []).length) ? LIVE_MS : CALM_MS;
}

async function ask() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    const view = await get('/v1/view');
    view.migrations = view.migrations || [];
    view.events = view.events || [];
    view.silent = view.silent || [];
    failures = 0;
    answeredAt = performance.now();
    show(view);
    if (last) tellNews(last, view);
    last = view;
  } catch (error) {
    failures += 1;
    problem = error.message;
  }
  asking = false;
  tellAge();
  timer = setTimeout(ask, pause());
}

function tellAge() {
  const age = performance.now() - answeredAt;
  const stale = failures > 1 || (age > STALE_MS && !document.hidden && (failures > 0 || asking));
  document.body.classList.toggle('is-stale', stale);
  if (stale && $('stale').hidden) {
    // Once: a screen reader says it at once.
    say($('stale'), `${MARKS.down} No news: ${problem || 'the daemon does not answer'}.`
      + (last ? ` What is shown is of ${clock(last.at)}.` : ''));
  }
  $('stale').hidden = !stale;
  say($('fresh'), stale ? `${seconds(age / 1000)} old` : (last ? `Live, ${clock(last.at)}` : 'Asking the daemon'));
}

for (const name of ['history', 'events']) {
  $(`${name}-more`).addEventListener('click', () => {
    open[name] = !open[name];
    if (last) show(last);
  });
}
$('filter-text').addEventListener('input', () => last && show(last));
document.addEventListener('visibilitychange', () => !document.hidden && ask());
showLegend();
setInterval(tellAge, 1000);
ask();
