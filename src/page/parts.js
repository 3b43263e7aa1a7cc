// How a node, a migration and the rows of the tables look; used by page.js.
'use strict';

const PLAN_MS = 10000;  // between two plans, while one is open
const PARTS = ['freeze', 'dump', 'transfer', 'restore', 'network', 'resume'];
const MARKS = {up: '\u25cf', degraded: '\u25b2', down: '\u2715', silent: '?'};

// ---- nodes ------------------------------------------------------------------------------------------------------

const stateOf = (node) => node.state || (node.reachable ? 'up' : 'silent');

function whyText(node) {
  if (!node.reachable && !node.cause) return `It does not answer: ${firstLine(node.error)}`;
  if (!node.cause) return '';
  return node.reason;
}

function sinceText(node) {
  if (!node.cause) return '';
  let text = `${node.cause}, since ${clock(node.since)}`;
  if (node.risk > 0 && !node.reason.includes('risk')) text += `, risk ${fixed(node.risk, 2)}`;
  if (node.lead_s > 0) text += `, lead ${seconds(node.lead_s)}`;
  return text;
}

function evidenceOf(node) {
  return (node.reasons || []).flatMap((reason) => reason.evidence || []);
}

function evacuationText(node) {
  const going = node.evacuation;
  if (!going || !going.phase || going.phase === 'idle') return '';
  let text = `Evacuation: ${going.phase}${going.text ? `, ${going.text}` : ''}; `
    + `${going.moved} moved, ${going.left} left`;
  if (going.starts_at) text += `, starts at ${clock(going.starts_at)}`;
  for (const one of going.stuck || []) text += `. ${one.container} cannot leave: ${firstLine(one.reason)}`;
  return text;
}

function createNode(node) {
  const parts = {
    state: make('span', 'state'), why: make('p', 'why'), since: make('p', 'since'),
    room: make('div', 'room'), slots: make('span'), slotMeter: make('meter'), memory: make('span'),
    memoryMeter: make('meter'), held: make('ul', 'held'), evacuation: make('p', 'note'), lost: make('p', 'note bad'),
    evidence: make('details', '', make('summary', '', 'Evidence'), make('ul')),
  };
  parts.room.append(parts.slots, parts.slotMeter, parts.memory, parts.memoryMeter);
  parts.held.setAttribute('aria-label', `Containers of ${node.name}`);
  const title = make('h3', '', node.name);
  if (node.role === 'head') title.append(make('span', 'quiet', ' head'));
  parts.plan = node.role === 'head' ? make('span') : createPlan(node.name);
  const item = make('li', '', make('div', 'node-head', title, parts.state), parts.why, parts.since, parts.room,
                    parts.held, parts.evacuation, parts.lost, parts.evidence, parts.plan);
  item.parts = parts;
  return item;
}

function updateNode(item, node) {
  const {parts} = item;
  const state = stateOf(node);
  item.className = state;
  say(parts.state, `${MARKS[state] || ''} ${state === 'silent' ? 'no answer' : state}`);
  showText(parts.why, whyText(node));
  showText(parts.since, sinceText(node));
  parts.plan.hidden = !node.reachable;
  const list = node.containers || [];
  parts.room.hidden = !node.reachable || !node.memory_bytes;  // most heads
  if (!parts.room.hidden) {
    const taken = node.memory_bytes - node.memory_free_bytes;
    say(parts.slots, `${node.slots - node.slots_free} of ${node.slots} slots`);
    say(parts.memory, `${bytes(taken)} of ${bytes(node.memory_bytes)}`);
    parts.slotMeter.max = node.slots;
    parts.slotMeter.value = node.slots - node.slots_free;
    parts.slotMeter.setAttribute('aria-label', 'Slots taken');
    parts.memoryMeter.max = node.memory_bytes;
    parts.memoryMeter.value = taken;
    parts.memoryMeter.setAttribute('aria-label', 'Memory promised to containers');
  }
  const targets = new Map((node.migrations || []).map((move) => [move.container, move.target]));
  keyed(parts.held, list, (one) => one.id, () => make('li'), (chip, one) => {
    const target = targets.get(one.id);
    const state = one.state === 'running' ? '' : ` ${one.state}`;
    say(chip, target ? `${one.id} \u2192 ${target}` : one.id + state);
    chip.className = one.state === 'running' ? '' : 'goes';
  });
  parts.held.hidden = list.length === 0;
  showText(parts.evacuation, evacuationText(node));
  const lost = (node.lost || []).map((one) => `${one.id} was lost at ${clock(one.at)}: ${firstLine(one.reason)}`);
  showText(parts.lost, lost.join('. '));
  const evidence = evidenceOf(node);
  say(parts.evidence.firstChild, `Evidence (${evidence.length})`);
  keyed(parts.evidence.lastChild, evidence.map((text, i) => ({text, i})), (one) => one.i, () => make('li'),
        (line, one) => say(line, one.text));
  parts.evidence.hidden = evidence.length === 0;
}

// What would leave where, asked for while it is open.
function createPlan(name) {
  const list = make('ul');
  const note = make('p', 'quiet');
  const plan = make('details', '', make('summary', '', `If ${name} were left now`), list, note);
  let timer = 0;
  const ask = async () => {
    try {
      const answer = await get(`/v1/nodes/${encodeURIComponent(name)}/plan`);
      const lines = answer.steps.map((step) => `${step.container} \u2192 ${step.to} over ${step.fabric}, `
        + `${step.mode}: ${ms(step.downtime_s * 1000)} downtime, ${seconds(step.duration_s)} in all`);
      for (const one of answer.unplaced) lines.push(`${one.container} would stay: ${one.why}`);
      keyed(list, lines, (line) => line, () => make('li'), (line, text) => say(line, text));
      say(note, lines.length ? `A plan: nothing is moved. ${firstLine(answer.why)}` : 'Nothing is there to leave.');
    } catch (error) {
      keyed(list, [], String, make, say);
      say(note, `No plan: ${error.message}`);
    }
    if (plan.open && plan.isConnected) timer = setTimeout(ask, PLAN_MS);
  };
  plan.addEventListener('toggle', () => {
    clearTimeout(timer);
    if (plan.open) ask();
  });
  return plan;
}

// ---- migrations -------------------------------------------------------------------------------------------------

function phaseText(move) {
  if (move.outcome === 'in-doubt') return 'in doubt';
  if (move.phase === 'queued') {
    return `queued, place ${move.queue_position}${move.waiting_for ? `, waiting for ${move.waiting_for}` : ''}`;
  }
  return move.phase === 'pre-copy' ? `pre-copy, round ${move.rounds.length + 1}` : move.phase;
}

function createMove(move) {
  const parts = {
    way: make('span', 'way'), phase: make('span', 'state'), how: make('p', 'quiet'), bar: make('progress'),
    numbers: make('dl', 'numbers'), rounds: make('div', 'rounds'), note: make('p', 'note bad'),
  };
  parts.rounds.setAttribute('role', 'img');
  parts.bar.setAttribute('aria-label', `${move.container}: memory sent`);
  const title = make('h3', '', `${move.container} `, parts.way);
  const item = make('li', '', make('div', 'move-head', title, parts.phase), parts.how, parts.bar,
                    make('div', 'move-rest', parts.numbers, parts.rounds), parts.note);
  item.parts = parts;
  return item;
}

function updateMove(item, move) {
  const {parts} = item;
  say(parts.way, `${move.source} \u2192 ${move.target}`);
  say(parts.phase, phaseText(move));
  const job = move.job ? `, job ${move.job}` : '';
  say(parts.how, `${move.mode} over ${move.fabric}${job}, since ${clock(move.started_at)}`);
  const waits = move.phase === 'queued' || move.phase === 'connect';
  parts.bar.max = Math.max(1, move.bytes_sent + move.remaining_bytes);
  parts.bar.value = move.bytes_sent;
  parts.bar.hidden = waits;
  const known = (value, text) => (value === null ? '\u2013' : text(value));
  const numbers = [['left', bytes(move.remaining_bytes)], ['ETA', known(move.eta_s, seconds)],
                   ['expected downtime', known(move.expected_downtime_ms, ms)]];
  if (!waits) {
    numbers.unshift(['sent', bytes(move.bytes_sent)]);
    numbers.push(['dirty rate', rate(move.dirty_bytes_per_s)], ['wire rate', rate(move.rate_bytes_per_s)]);
  }
  keyed(parts.numbers, numbers, (pair) => pair[0], (pair) => make('div', '', make('dt', '', pair[0]), make('dd')),
        (place, pair) => say(place.lastChild, pair[1]));
  const rounds = move.rounds.map((round) => round.pages_sent * 4096);
  const most = Math.max(1, ...rounds);
  keyed(parts.rounds, rounds.map((size, i) => ({size, i})), (one) => one.i, () => make('i'),
        (bar, one) => bar.style.setProperty('height', `${100 * one.size / most}%`));
  parts.rounds.hidden = rounds.length < 2;
  const told = `Memory sent in each round: ${rounds.map(bytes).join(', ')}`;
  parts.rounds.setAttribute('aria-label', told);
  parts.rounds.title = told;
  showText(parts.note, firstLine(move.error));
}

function showLegend() {
  $('legend').append(...PARTS.map((part) => make('li', '', make('i', part), part)));
}

// The downtime and its parts: a bar for the eye, the numbers on hover and focus, and as its name.
function createSplit() {
  const split = make('span', 'split', make('span'), make('span', 'bar'), make('span', 'tip'));
  split.tabIndex = 0;
  split.setAttribute('role', 'img');
  split.children[1].append(...PARTS.map((part) => make('i', part)));
  for (const part of PARTS) split.children[2].append(make('i', part), make('span', '', part), make('span', 'n'));
  split.addEventListener('keydown', (event) => split.classList.toggle('closed', event.key === 'Escape'));
  split.addEventListener('blur', () => split.classList.remove('closed'));
  return split;
}

function showDowntime(td, move) {
  const parts = move.downtime_parts_ms;
  if (!parts || !move.downtime_ms) {
    td.replaceChildren('\u2013');
    return;
  }
  if (!td.querySelector('.split')) td.replaceChildren(createSplit());
  const split = td.firstChild;
  const values = PARTS.map((part) => parts[part] || 0);
  say(split.children[0], ms(move.downtime_ms));
  values.forEach((value, i) => {
    split.children[1].children[i].style.setProperty('flex', `${value} 0 0`);
    split.children[1].children[i].hidden = value <= 0;
    say(split.children[2].children[3 * i + 2], `${fixed(value, 1)} ms`);
  });
  split.setAttribute('aria-label', `Downtime ${ms(move.downtime_ms)}: `
    + PARTS.map((part, i) => `${part} ${fixed(values[i], 1)} ms`).join(', '));
}

function showOutcome(td, move) {
  if (!td.firstChild) td.append(make('span'), make('span', 'quiet'));
  say(td.firstChild, move.outcome);
  td.firstChild.className = move.outcome === 'committed' ? '' : 'bad';
  const more = move.outcome === 'committed' ? (move.warnings || []).join('; ') : firstLine(move.error);
  say(td.lastChild, more ? `: ${more}` : '');
}

const HISTORY = [
  {head: 'Began', kind: 't', cell: (move) => clock(move.started_at)},
  {head: 'Container', kind: 'name', cell: (move) => move.container},
  {head: 'From \u2192 to', kind: '', cell: (move) => `${move.source} \u2192 ${move.target}`},
  {head: 'Mode', kind: 'quiet how', cell: (move) => (move.mode ? `${move.mode}, ${move.fabric}` : '')},
  {head: 'Outcome', kind: 'wide outcome', show: showOutcome},
  {head: 'Downtime', kind: 'wide downtime', show: showDowntime},
  {head: 'Sent', kind: 'n', label: 'sent', cell: (move) => (move.bytes_sent ? bytes(move.bytes_sent) : '\u2013')},
  {head: 'Total', kind: 'n', label: 'total', cell: (move) => (move.total_ms ? seconds(move.total_ms / 1000) : '\u2013')},
];

const CONTAINERS = [
  {head: 'Container', kind: 'name', cell: (one) => one.id},
  {head: 'Node', kind: '', cell: (one) => one.node},
  {head: 'Job', kind: 'quiet', label: 'job', cell: (one) => one.job || '\u2013'},
  {head: 'State', kind: '', cell: (one) => one.state},
  {head: 'Memory', kind: 'n', label: 'memory', cell: (one) => bytes(one.resident_bytes)},
  {head: 'Limit', kind: 'n', label: 'of', cell: (one) => bytes(one.memory_bytes)},
];

function eventText(event) {
  const reason = event.reason ? `: ${event.reason}` : '';
  if (event.state) return `${event.of} is ${event.state} (${event.change})${reason}`;
  return `${event.container}: ${event.source} \u2192 ${event.target}${reason}`;
}

const EVENTS = [
  {head: 'Time', kind: 't', cell: (event) => clock(event.t / 1000)},
  {head: 'Node', kind: '', cell: (event) => event.node},
  {head: 'Event', kind: '', cell: (event) => event.event},
  {head: 'What', kind: 'wide what', cell: eventText},
];
