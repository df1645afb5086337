// The review page: a viewer (window, level, zoom), a form, and an outline editor.
// Nothing here knows which slices are real. Every change is sent to the server at once.

import { Outline } from "/static/outline.js";
import { Viewer } from "/static/viewer.js";

const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const reader = document.body.dataset.reader;
const query = `?reader=${encodeURIComponent(reader)}`;
const CRITERIA = $$("[data-criterion]").map((row) => row.dataset.criterion);
const SAVE_DELAY_MS = 250;
const RETRY_MS = 2000;

const study = await fetchJson(`/api/study${query}`);
const [height, width] = study.size;
const slices = new Map(); // id -> promise of {channels, mask}
const answers = new Map(Object.entries(study.answers));
let turn = Math.max(0, study.order.findIndex((id) => !answers.get(id)?.done));
let ended = study.order.every((id) => answers.get(id)?.done);
if (ended) turn = study.order.length - 1;
let answer = emptyAnswer();
let row = 0; // the marked criterion
let reminded = false;
let shownSince = performance.now();
let turns = Promise.resolve(); // slices are shown one after the other, never two at once

const outline = new Outline(width, height, () => { answer.outline_from ??= "blank"; changed(); viewer.draw(); });
const viewer = new Viewer($("#view"), { width, height, most: study.most, outline, readout: $("#readout") });
if (study.oriented) $$(".mark").forEach((mark) => { mark.hidden = false; });
$("[data-do=channel]").hidden = study.channels.length < 2;

function emptyAnswer() {
  return {
    decision: null, scores: {}, artefact_kinds: [], flagged: false, comment: "", outline: null,
    outline_from: null, seconds: 0, done: false,
  };
}

async function fetchJson(url) {
  const response = await fetch(url);
  if (!response.ok) {
    const detail = (await response.json()).detail;
    document.body.textContent = detail;
    throw new Error(detail);
  }
  return response.json();
}

function slice(id) {
  if (!slices.has(id)) {
    slices.set(id, fetch(`/api/slices/${id}`).then((response) => {
      if (!response.ok) throw new Error(`slice: ${response.status}`);
      return response.arrayBuffer();
    }).then((buffer) => {
      const channels = study.channels.map(
        (_, number) => new Uint16Array(buffer, 2 * number * width * height, width * height),
      );
      return { channels, mask: new Uint8Array(buffer, 2 * channels.length * width * height) };
    }));
    slices.get(id).catch(() => slices.delete(id));
  }
  return slices.get(id);
}

// Show the slice of the present turn with the answer so far.
async function show() {
  const id = study.order[turn];
  const pixels = await slice(id);
  answer = { ...emptyAnswer(), ...structuredClone(answers.get(id) ?? {}) };
  row = Math.max(0, CRITERIA.findIndex((name) => !answer.scores[name]));
  reminded = false;
  shownSince = performance.now();
  outline.load(answer.outline);
  viewer.show(pixels);
  toggleMask(false);
  $("#comment").value = answer.comment;
  $("#comment").blur();
  render();
  if (turn + 1 < study.order.length) slice(study.order[turn + 1]).catch(() => {});
}

function render() {
  const done = study.order.filter((id) => answers.get(id)?.done).length;
  $("#count").textContent = `Slice ${turn + 1} of ${study.order.length}, ${done} answered`;
  $("#bar").max = study.order.length;
  $("#bar").value = done;
  for (const button of $$("[data-decision]")) {
    button.setAttribute("aria-pressed", String(button.dataset.decision === answer.decision));
  }
  $$("[data-criterion]").forEach((group, number) => {
    group.classList.toggle("current", number === row);
    for (const button of group.querySelectorAll("[data-score]")) {
      const chosen = answer.scores[group.dataset.criterion] === Number(button.dataset.score);
      button.setAttribute("aria-checked", String(chosen));
    }
  });
  for (const button of $$("[data-kind]")) {
    button.setAttribute("aria-pressed", String(answer.artefact_kinds.includes(button.dataset.kind)));
  }
  $("#flag").setAttribute("aria-pressed", String(answer.flagged));
  $("[data-do=back]").disabled = turn === 0;
  $("#end").hidden = !ended;
  document.body.classList.toggle("ended", ended);
  document.body.dataset.turn = String(turn); // of the reader's own order
}

// Saving: what was changed last goes out first in line, and is sent again until it arrives.
const unsaved = new Map();
let timer = 0;

function changed() {
  answer.outline = outline.encode();
  if (!answer.outline) answer.outline_from = null;
  const id = study.order[turn];
  answers.set(id, structuredClone(answer));
  unsaved.set(id, answers.get(id));
  $("#saved").textContent = "…";
  clearTimeout(timer);
  timer = setTimeout(send, SAVE_DELAY_MS);
  render();
}

let sending = Promise.resolve();
function send() {
  clearTimeout(timer);
  sending = sending.then(sendAll);
  return sending;
}

async function sendAll() {
  for (const [id, body] of [...unsaved]) {
    try {
      const response = await fetch(`/api/answers/${id}${query}`, {
        method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      if (!response.ok) throw new Error((await response.json()).detail);
      if (unsaved.get(id) === body) unsaved.delete(id);
    } catch (error) {
      const offline = error instanceof TypeError;
      $("#saved").textContent = offline ? "not saved: no connection, trying again" : `not saved: ${error.message}`;
      $("#saved").classList.add("error");
      timer = setTimeout(send, RETRY_MS);
      return;
    }
  }
  $("#saved").classList.remove("error");
  $("#saved").textContent = unsaved.size ? "…" : "saved";
}

addEventListener("beforeunload", (event) => {
  if (unsaved.size) event.preventDefault();
});

// What a reader does.
function decide(decision) { answer.decision = decision; hint(""); changed(); }

function rate(number, score) {
  answer.scores[CRITERIA[number]] = score;
  const next = CRITERIA.findIndex((name, place) => place > number && !answer.scores[name]);
  row = next < 0 ? Math.min(number + 1, CRITERIA.length - 1) : next;
  changed();
}

function toggleKind(kind) {
  const kinds = new Set(answer.artefact_kinds);
  if (!kinds.delete(kind)) kinds.add(kind);
  answer.artefact_kinds = [...kinds];
  changed();
}

function toggleFlag() { answer.flagged = !answer.flagged; changed(); }

function toggleMask(shown = !viewer.maskShown) {
  viewer.maskShown = shown;
  $("[data-do=overlay]").setAttribute("aria-pressed", String(shown));
  viewer.draw();
}

function correctMask() {
  outline.begin(viewer.pixels.mask);
  answer.outline_from = "mask";
  toggleMask(false);
  chooseTool("brush");
  changed();
}

function next() {
  if (ended) return;
  if (outline.open) { outline.close(); return; }
  if (!answer.decision) {
    hint("Say first whether the slice is of a patient (R) or synthetic (S).");
    return;
  }
  const missing = CRITERIA.filter((name) => !answer.scores[name]).length;
  if (missing && !reminded) {
    reminded = true;
    row = CRITERIA.findIndex((name) => !answer.scores[name]);
    hint(`${missing} of ${CRITERIA.length} ratings are missing. Next (Enter) once more goes on without them.`);
    render();
    return;
  }
  answer.seconds += (performance.now() - shownSince) / 1000;
  answer.done = true;
  changed();
  send();
  const open = study.order.findIndex((id, place) => place > turn && !answers.get(id)?.done);
  const anywhere = study.order.findIndex((id) => !answers.get(id)?.done);
  if (open < 0 && anywhere < 0) { ended = true; hint(""); render(); return; }
  go(open < 0 ? anywhere : open);
}

function back() {
  if (ended) { ended = false; render(); return; }
  if (turn > 0) go(turn - 1);
}

function go(place) {
  turns = turns.then(async () => {
    hint("");
    turn = place;
    try {
      await show();
    } catch {
      hint("The slice did not arrive: no connection. Trying again.");
      setTimeout(() => go(place), RETRY_MS);
    }
  });
}

function hint(text) {
  $("#hint").textContent = text;
  $("#hint").hidden = !text;
}

function chooseTool(tool) {
  viewer.tool = tool;
  outline.cancelOpen();
  for (const button of $$("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  viewer.draw();
}

const actions = {
  overlay: () => toggleMask(), correct: correctMask, undo: () => outline.undo(), next, back,
  clear: () => { outline.clear(); }, zoomin: () => viewer.zoomBy(1.25),
  zoomout: () => viewer.zoomBy(0.8), reset: () => viewer.reset(),
  channel: () => viewer.nextChannel(study.channels), help: () => $("#help").showModal(),
};

const keys = {
  r: () => decide("real"), s: () => decide("synthetic"), m: () => toggleMask(), " ": () => toggleMask(),
  f: toggleFlag, n: () => $("#comment").focus(), w: () => chooseTool("window"),
  d: () => chooseTool("outline"), b: () => chooseTool("brush"), e: () => chooseTool("erase"),
  k: correctMask, x: actions.clear, i: () => viewer.toggleSmooth(), c: actions.channel,
  0: actions.reset, "+": actions.zoomin, "=": actions.zoomin, "-": actions.zoomout,
  "[": () => viewer.resizeBrush(-1), "]": () => viewer.resizeBrush(1), "?": actions.help,
  enter: next, arrowright: next, arrowleft: back, backspace: back,
  arrowdown: () => { row = Math.min(row + 1, CRITERIA.length - 1); render(); },
  arrowup: () => { row = Math.max(row - 1, 0); render(); },
  escape: () => { outline.cancelOpen(); chooseTool("window"); },
};

addEventListener("keydown", (event) => {
  if ($("#help").open) return;
  const key = event.key.toLowerCase();
  if (event.target === $("#comment")) {
    if (key === "escape" || (key === "enter" && event.ctrlKey)) $("#comment").blur();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && key === "z") {
    event.preventDefault();
    outline.undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (ended && !["arrowleft", "backspace"].includes(key)) return;
  const action = /^[1-5]$/.test(key) ? () => rate(row, Number(key)) : keys[key];
  if (!action) return;
  event.preventDefault();
  action();
});

$("#panel").addEventListener("submit", (event) => event.preventDefault());
$("#comment").addEventListener("input", () => { answer.comment = $("#comment").value; changed(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { decision, score, kind, tool, do: action } = button.dataset;
  if (decision) decide(decision);
  else if (score) rate(CRITERIA.indexOf(button.closest("[data-criterion]").dataset.criterion), Number(score));
  else if (kind) toggleKind(kind);
  else if (tool) chooseTool(tool);
  else if (button.id === "flag") toggleFlag();
  else if (action) actions[action]();
  else return;
  button.blur(); // keys go on to the page, not to the button
});

chooseTool("window");
go(turn);
