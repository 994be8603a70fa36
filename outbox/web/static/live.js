// Keeps the page up to date: fragments that the server has rendered are swapped in as they change.
// Without this script the page works, and shows what a reload shows.

const body = document.body;
const light = document.getElementById("live");

// Ages count on between updates, in the words of outbox/web/times.py.
function ageText(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60), hours = Math.floor(s / 3600), days = Math.floor(s / 86400);
  if (minutes < 60) return `${minutes} min`;
  if (hours < 10) return `${hours} h ${minutes % 60} min`;
  if (hours < 24) return `${hours} h`;
  if (days < 10) return `${days} d ${hours % 24} h`;
  return `${days} d`;
}

// The server's clock counts, not the browser's.
const skew = Number(body.dataset.now || Date.now()) - Date.now();

function tick(root = document) {
  for (const time of root.querySelectorAll("time[data-age], time[data-until]")) {
    const ago = (Date.now() + skew - Date.parse(time.dateTime)) / 1000;
    const word = time.dataset.age === "ago" ? " ago" : "";
    const text = ageText("until" in time.dataset ? -ago : ago) + word;
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(tick, 1000);

// Turns one element into another, and leaves alone what is the same: focus, open details, what
// somebody has typed, and where a box was scrolled to stay.
function morph(old, fresh) {
  // What says something else altogether is put in the old one's place, and does not become it.
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName ||
      old.dataset?.says !== fresh.dataset?.says) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS"))
      old.removeAttribute(name);
  if (old.nodeName !== "TIME") morphChildren(old, fresh);
  else if (old.dateTime !== "" && !old.textContent) old.textContent = fresh.textContent;
}

function morphChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  const there = [...old.childNodes];
  wanted.forEach((node, at) => (there[at] ? morph(there[at], node) : old.append(node)));
  there.slice(wanted.length).forEach((node) => node.remove());
}

// While somebody points at a list or is in it with the keyboard, nothing moves in it: its rows
// change where they stand, and others come when it is left.
const held = new Map();

function isBusy(target) {
  return "hold" in target.dataset && target.matches(":hover, :focus-within");
}

function swap(id, html) {
  const target = document.getElementById(id);
  if (!target) return;
  const fresh = target.cloneNode(false);
  fresh.innerHTML = html;
  if (isBusy(target)) {
    for (const row of fresh.querySelectorAll("[data-id]")) {
      const same = target.querySelector(`[data-id="${CSS.escape(row.dataset.id)}"]`);
      if (same) morph(same, row.cloneNode(true));
    }
    held.set(id, html);
  } else {
    held.delete(id);
    morphChildren(target, fresh);
  }
  tick(target);
}

function release() {
  for (const [id, html] of held) {
    const target = document.getElementById(id);
    if (target && !isBusy(target)) swap(id, html);
  }
}
document.addEventListener("pointerover", release);
document.addEventListener("focusin", release);
setInterval(release, 1000);

// What is of this session only, such as forms, is fetched when it is out of date; unless somebody
// is filling it in, who is told instead.
async function refresh() {
  const version = document.querySelector("[data-version-now]")?.dataset.versionNow;
  const part = document.querySelector("[data-refetch]");
  if (!part || !version || part.dataset.version === version) return;
  const typed = [...part.querySelectorAll("textarea, input[type=text]")].some(
    (field) => field.value !== field.defaultValue);
  if (typed || part.querySelector("form:focus-within")) {
    part.querySelector("[data-outdated]")?.removeAttribute("hidden");
    return;
  }
  const answer = await fetch(part.dataset.refetch, { headers: { "X-Requested-With": "live" } });
  if (!answer.ok) return;
  const open = [...part.querySelectorAll("details[open]")].map((one) => one.id);
  part.innerHTML = await answer.text();
  part.dataset.version = part.querySelector("[data-version-shown]")?.dataset.versionShown ?? version;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  tick(part);
}

let source, pause = 1000, retry;

function show(state, text) {
  if (!light) return;
  light.dataset.state = state;
  light.title = text;
  light.lastElementChild.textContent = text;
}

function connect() {
  clearTimeout(retry);
  if (!body.dataset.live || document.hidden || source) return;
  source = new EventSource(body.dataset.live);
  source.addEventListener("open", () => {
    pause = 1000;
    show("on", "live");
  });
  source.addEventListener("fragments", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) swap(id, html);
    refresh();
  });
  source.addEventListener("error", () => {
    show("off", "reconnecting");
    // A stream that was refused or has ended is begun anew, later and later.
    disconnect();
    retry = setTimeout(connect, pause);
    pause = Math.min(pause * 2, 30000);
  });
}

function disconnect() {
  source?.close();
  source = undefined;
}

// A page that nobody sees costs nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    disconnect();
    show("off", "paused");
  } else {
    connect();
  }
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
connect();
tick();

// A filter applies as it is chosen.
for (const form of document.querySelectorAll("form[data-auto]"))
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
  });

// Of some fields only those of the chosen option are shown.
function choose(select) {
  for (const part of select.form.querySelectorAll("[data-for]"))
    part.hidden = !part.dataset.for.split(" ").includes(select.value);
}
for (const select of document.querySelectorAll("select[data-chooses]")) {
  choose(select);
  select.addEventListener("change", () => choose(select));
}

// What is amended is shown as it is.
document.addEventListener("change", (event) => {
  const select = event.target.closest("select[data-fills]");
  if (!select) return;
  const field = select.form.querySelector(`[name="${select.dataset.fills}"]`);
  const text = select.selectedOptions[0].dataset.text;
  if (field && text !== undefined) field.value = text;
});
