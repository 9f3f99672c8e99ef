// The demo page. Each panel opens one WebSocket, whose path names the file in sockets/ that answers.
//
// A message to a user reaches all connections of that user, so every connection of this tab gets a
// copy of every event. A panel takes the events that belong to it and leaves the others alone: nothing
// is shown twice. What belongs to no panel is shown by the first one.

const FIRST_PAUSE = 300, LONGEST_PAUSE = 8000; // milliseconds between attempts to connect
const FRAMES_KEPT = 200, LINES_KEPT = 50;
const EVENTS = new Set(["joined", "message", "profile", "progress", "report", "finished", "failed", "cancelled"]);

const find = (selector, within = document) => within.querySelector(selector);

/** Make an element; text only ever becomes text, never HTML. */
function make(tag, { text = "", ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...(text === "" ? [] : [text]), ...children);
  return element;
}

/** The fields of a frame; none when it is not a JSON object. */
function fieldsOf(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

const now = () => new Date().toLocaleTimeString([], { hour12: false });

/** Add a line to a list that scrolls, and keep it at its end unless the reader has scrolled up. */
function addLine(list, line, kept = LINES_KEPT) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  list.append(line);
  while (list.children.length > kept) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// --- Who you are: the name is in the page's address ---

const NAME = /^[A-Za-z0-9_.-]{1,32}$/;
const asked = new URLSearchParams(location.search).get("user");
const user = asked !== null && NAME.test(asked) ? asked : "ann";
const pageOf = (name) => `/?user=${encodeURIComponent(name)}`;

history.replaceState(null, "", pageOf(user));
document.title = `${user} · queue-run demo`;
find("#user").value = user;
for (const [id, name] of [["#same", user], ["#other", user === "bob" ? "ann" : "bob"]]) {
  find(id).href = pageOf(name);
  find("b", find(id)).textContent = name;
}

// --- Connections ---

/** One WebSocket to one path, opened again whenever it closes. */
class Connection {
  #path;
  #panel;
  #socket = null;
  #pause = FIRST_PAUSE;
  #retry = 0;
  state = "connecting";

  constructor(path, panel) {
    this.#path = path;
    this.#panel = panel;
    this.#connect();
  }

  send(message) {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    this.#socket.send(text);
    showFrame("→", this.#path, text);
  }

  /** Try at once, if it waits for its next attempt. */
  hurry() {
    if (this.#retry) this.#connect();
  }

  get isOpen() {
    return this.state === "open";
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    const address = new URL(this.#path, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("user", user);
    this.#socket = new WebSocket(address);
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = (event) => this.#received(event.data);
    this.#socket.onclose = () => this.#closed();
  }

  #opened() {
    this.state = "open";
    this.#pause = FIRST_PAUSE;
    this.#panel.stateChanged(this);
    this.#panel.opened();
  }

  #received(data) {
    const text = typeof data === "string" ? data : `${data.size} bytes`;
    const taken = this.#panel.received(fieldsOf(text), text);
    showFrame("←", this.#path, text, { isCopy: !taken });
  }

  #closed() {
    this.state = "closed";
    this.#panel.stateChanged(this);
    // Jitter: the tabs of a restarted server must not all come back in the same moment.
    const wait = this.#pause * (0.5 + Math.random() / 2);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#retry = setTimeout(() => this.#connect(), wait);
  }
}

/** One section of the page and its connection. */
class Panel {
  constructor(path, id) {
    this.section = find(id);
    this.connection = new Connection(path, this);
  }

  /** Call `action` with the form's fields when it is submitted. */
  onSubmit(form, action) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.connection.isOpen) return;
      this.showError("");
      action(Object.fromEntries(new FormData(form)), form);
    });
  }

  stateChanged({ state, isOpen }) {
    find(".path", this.section).dataset.state = state;
    for (const button of this.section.querySelectorAll("form button")) button.disabled = !isOpen;
    showState();
  }

  showError(text) {
    const line = find(".error", this.section);
    line.textContent = text;
    line.hidden = text === "";
  }

  /** The connection is open, for the first time or again. */
  opened() {}

  /** A message came; false when it is no business of this panel. */
  received(message, text) {
    if (typeof message.error !== "string") return this.take(message, text);
    this.showError(message.error);
    return true;
  }
}

// --- Echo ---

class Echo extends Panel {
  #sentAt = []; // replies come in the order of the requests

  constructor() {
    super("/", "#echo");
    this.onSubmit(find("form", this.section), ({ text }) => {
      this.#sentAt.push(performance.now());
      this.connection.send(text);
    });
  }

  opened() {
    this.#sentAt = [];
  }

  take({ event, echo }, text) {
    if (EVENTS.has(event)) return false;
    const took = echo === undefined ? [] : [this.#time()];
    addLine(find("#echoes"), make("li", { text }, ...took));
    return true;
  }

  showError(text) {
    if (text !== "") this.#sentAt.shift();
    super.showError(text);
  }

  #time() {
    const took = performance.now() - this.#sentAt.shift();
    return make("span", { className: "quiet aside", text: `${took.toFixed(1)} ms` });
  }
}

// --- Chat ---

class Chat extends Panel {
  #room = "lobby";

  constructor() {
    super("/chat", "#chat");
    this.onSubmit(find("#join"), ({ room }) => this.#join(room));
    this.onSubmit(find("#say"), ({ text }, form) => {
      this.connection.send({ room: this.#room, text });
      form.reset();
    });
  }

  opened() {
    this.#join(this.#room);
  }

  #join(room) {
    if (room !== this.#room) find("#messages").replaceChildren();
    this.#room = room;
    this.connection.send({ join: room });
  }

  take({ event, room, ...message }) {
    if (event !== "joined" && event !== "message") return false;
    if (room !== this.#room) return true; // you are in that room too, but look at another one
    if (event === "joined") this.#showMembers(message.members);
    else this.#showMessage(message);
    return true;
  }

  #showMembers(members) {
    const others = members.filter((name) => name !== user);
    const company = others.length ? `with ${others.join(", ")}` : "alone so far";
    find("#members").textContent = `You are in ${this.#room}, ${company}.`;
  }

  #showMessage({ from, text }) {
    addLine(find("#messages"), make("li", { className: from === user ? "mine" : "" },
      make("b", { text: from }), make("span", { text })));
  }
}

// --- My devices ---

class Devices extends Panel {
  #form = find("#devices form");

  constructor() {
    super("/devices", "#devices");
    this.onSubmit(this.#form, (profile) => this.connection.send({ profile }));
    this.#showCard("", "");
  }

  opened() {
    this.connection.send({ get: "profile" });
  }

  take({ event, profile }) {
    if (profile === undefined) return false;
    const { name = "", color = "" } = profile;
    this.#showCard(name, color);
    if (name && event) find("#card-note").textContent = `Saved at ${now()}.`;
    // What somebody is typing here is not overwritten.
    if (!this.#form.contains(document.activeElement)) {
      this.#form.elements.name.value = name;
      if (color) this.#form.elements.color.value = color;
    }
    return true;
  }

  #showCard(name, color) {
    find("#card-name").textContent = name || user;
    find("#card-note").textContent = name ? "Your profile." : "No profile saved yet.";
    const avatar = find("#card .avatar");
    avatar.textContent = [...(name || user)][0].toUpperCase();
    avatar.style.backgroundColor = color;
  }
}

// --- Report ---

class Reports extends Panel {
  #rows = new Map(); // job id to its line

  constructor() {
    super("/reports", "#reports");
    this.onSubmit(find("form", this.section), ({ pages }) =>
      this.connection.send({ start: "report", pages: Number(pages) }));
  }

  opened() {
    // A plain WebSocket misses what was sent while it was away.
    for (const { row, note } of this.#rows.values()) {
      if (row.dataset.state !== "running") continue;
      row.dataset.state = "unknown";
      note.textContent += " when the connection dropped";
    }
  }

  take({ event, job, pages, done, of, text, error }) {
    if (event === "progress") this.#progress(job, done, of);
    else if (event === "report") this.#row(job).note.textContent = text;
    else if (event === "finished") this.#ended(job, event);
    else if (event === "failed") this.#ended(job, event, error);
    else if (event === "cancelled") this.#ended(job, event, "cancelled");
    else if (pages !== undefined) this.#progress(job, 0, pages); // the reply: the job is queued
    else return false;
    return true;
  }

  #progress(job, done, of) {
    const { row, bar, note } = this.#row(job);
    if (row.dataset.state !== "running" && row.dataset.state !== "unknown") return;
    if (done < bar.value) return; // the reply may come late
    row.dataset.state = "running";
    bar.max = of;
    bar.value = done;
    note.textContent = done ? `page ${done} of ${of}` : "queued";
  }

  // The framework says how a job ended, also when its worker was killed.
  #ended(job, state, text) {
    const { row, bar, note, cancel } = this.#row(job);
    row.dataset.state = state;
    if (state === "finished") bar.value = bar.max;
    if (text) note.textContent = text;
    cancel.remove();
  }

  #row(job) {
    if (!this.#rows.has(job)) {
      const note = make("span", { className: "note" });
      const label = `Report ${job.slice(0, 8)}`;
      const bar = make("progress", { value: 0, ariaLabel: label });
      const cancel = make("button", { type: "button", text: "Cancel", ariaLabel: `Cancel ${label}` });
      cancel.addEventListener("click", () => this.connection.send({ cancel: job }));
      const row = make("li", {}, make("code", { text: job.slice(0, 8), title: job }), bar, cancel, note);
      row.dataset.job = job;
      row.dataset.state = "running";
      find("#jobs").prepend(row);
      this.#rows.set(job, { row, bar, note, cancel });
    }
    return this.#rows.get(job);
  }
}

// --- The whole page ---

const panels = [];

const STATES = {
  open: "connected",
  connecting: "connecting…",
  closed: "not connected, trying again…",
};

/** The state of the page is the worst one of its connections. */
function showState() {
  const states = panels.map((panel) => panel.connection.state);
  const worst = ["closed", "connecting"].find((each) => states.includes(each)) ?? "open";
  const line = find("#state");
  if (line.dataset.state === worst) return;
  line.dataset.state = worst;
  line.textContent = STATES[worst];
}

function showFrame(direction, path, text, { isCopy = false } = {}) {
  const line = make("li", { className: `${direction === "→" ? "out" : "in"}${isCopy ? " copy" : ""}` },
    make("time", { text: now() }),
    make("span", { className: "direction", text: direction, title: direction === "→" ? "sent" : "received" }),
    make("span", { className: "frame-path", text: path }),
    make("span", { className: "frame", text: text.length > 500 ? `${text.slice(0, 500)}…` : text }));
  addLine(find("#frames"), line, FRAMES_KEPT);
}

find("#who").addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(pageOf(find("#user").value));
});
find("#copies").addEventListener("change", ({ target }) => {
  const frames = find("#frames");
  frames.classList.toggle("with-copies", target.checked);
  frames.scrollTop = frames.scrollHeight;
});
find("#clear").addEventListener("click", () => find("#frames").replaceChildren());
find("#address").textContent = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/?user=${user}`;
addEventListener("online", () => panels.forEach((panel) => panel.connection.hurry()));

panels.push(new Echo(), new Chat(), new Devices(), new Reports());
