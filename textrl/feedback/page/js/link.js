/**
 * The connection to a session: one WebSocket that comes back by itself.
 *
 *   link.send(kind, payload, options)   an event; kept until the server says that it is stored
 *   link.shown(frameId, t)              a frame or token became visible; sent in batches
 *   link.on(type, run)                  messages of the server by their type, and these of its own:
 *       state   {state, next_ms}        connecting, open, lost, refused, missing (no such session)
 *       pending {count}                 how many events are not stored yet
 *       stored  {uuid, seq, kind, message}   an event is durable; message is as it was sent
 *       dropped {uuid, kind, event, message} the server refused an event for good, and why; event as it was sent
 */

import { now, uuid } from "./clock.js";
import { Outbox } from "./outbox.js";
import { recordLatency } from "./measure.js";
import { soon } from "./soon.js";

const PROTOCOL = 1;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 1500; // with the handshake this stays below two seconds
const OPEN_WITHIN_MS = 4000;
const BATCH_MS = 100;
const BATCH_FRAMES = 60;
const PING_MS = 2000;
const SILENT_MS = 7000; // a network that swallows packets never closes a socket
// The server refuses these once and would refuse them again; anything else is sent again.
const FINAL = new Set(["bad_event", "bad_message", "unknown_kind", "too_large", "not_yours", "machine_failed"]);

export class Link {
  /** @param {string} memory under which the browser keeps what is not stored yet */
  constructor(session, annotator, memory) {
    this.session = session;
    this.annotator = annotator;
    this.client = uuid();
    this.outbox = new Outbox(memory);
    this.listeners = new Map();
    this.startedAt = new Map();
    this.frames = [];
    this.socket = null;
    this.ready = false;
    this.closed = false;
    this.failures = 0;
    this.refusals = new Set(); // events that the server did not take
    this.heard = performance.now();
    this.timers = new Set();
  }

  on(type, run) {
    if (!this.listeners.has(type)) this.listeners.set(type, []);
    this.listeners.get(type).push(run);
    return this;
  }

  emit(type, message) {
    for (const run of this.listeners.get(type) ?? []) run(message);
    if (type !== "*") for (const run of this.listeners.get("*") ?? []) run({ ...message, type });
  }

  start() {
    this.every(BATCH_MS, () => this.flushShown());
    this.every(PING_MS, () => this.beat());
    // The browser knows at once that the network is back; no need to wait out the pause.
    this.wake = () => { if (!this.ready && !this.socket && !this.closed) this.open(); };
    addEventListener("online", this.wake);
    this.gone = () => this.drop();
    addEventListener("offline", this.gone);
    this.open();
    this.emit("pending", { count: this.outbox.size });
    return this;
  }

  every(ms, run) {
    this.timers.add(setInterval(run, ms));
  }

  close() {
    this.flushShown();
    this.closed = true;
    for (const timer of this.timers) clearInterval(timer);
    removeEventListener("online", this.wake);
    removeEventListener("offline", this.gone);
    this.socket?.close();
  }

  open() {
    clearTimeout(this.again);
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("session", this.session);
    this.emit("state", { state: "connecting" });
    const socket = new WebSocket(url);
    this.socket = socket;
    const slow = setTimeout(() => socket.close(), OPEN_WITHIN_MS);
    socket.onopen = () => {
      clearTimeout(slow);
      this.heard = performance.now();
      this.write({ type: "hello", protocol: PROTOCOL, annotator: this.annotator, client: this.client, t: now() });
    };
    socket.onmessage = (event) => { if (this.socket === socket) this.receive(event.data); };
    socket.onclose = (event) => {
      clearTimeout(slow);
      if (this.socket === socket) this.lose(event);
    };
  }

  lose(event) {
    this.socket = null;
    this.ready = false;
    if (this.closed) return;
    // 4401 and 4403 are the server's "token" and "not this page"; coming back would not help.
    if (event.code === 4401 || event.code === 4403) { this.refuse(event.reason); return; }
    if (event.code === 4404) { this.close(); this.emit("state", { state: "missing" }); return; }
    this.failures += 1;
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.failures - 1)) * (0.8 + 0.2 * Math.random());
    this.emit("state", { state: "lost", next_ms: wait });
    this.again = setTimeout(() => this.open(), wait);
    if (this.failures === 3) this.askWhy();
  }

  /** A refused handshake looks like a dead network to a WebSocket; a request tells which of them it is. */
  async askWhy() {
    try {
      const answer = await fetch("api/sessions", { cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) this.refuse("");
    } catch { /* the network is dead indeed; go on trying */ }
  }

  /** Come back at once: the welcome tells the whole state anew. */
  reconnect() {
    this.socket?.close();
  }

  refuse(reason) {
    this.close();
    clearTimeout(this.again);
    this.emit("state", { state: "refused", reason });
  }

  write(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /**
   * Send an event; it is kept until it is stored.
   * @param {{t?: number, frameId?: number}} [options] t: when it happened, s on the client's clock.
   * @returns {string} its uuid
   */
  send(kind, payload = {}, { t = now(), frameId = null } = {}) {
    // A press stands after the display of its frame in the log: see `textrl feedback verify`.
    if (kind !== "shown") this.flushShown(t);
    const message = { type: "event", uuid: uuid(), kind, t, payload };
    if (frameId !== null) message.frame_id = frameId;
    this.outbox.add(message);
    if (kind !== "shown") this.startedAt.set(message.uuid, t);
    if (this.ready) this.write(message);
    if (kind !== "shown") soon(() => this.emit("pending", { count: this.outbox.size }));
    return message.uuid;
  }

  /** Ask the server to end the session for everybody; tells whether it was asked. */
  finish() {
    if (!this.ready) return false;
    this.flushShown();
    return this.write({ type: "finish", t: now() });
  }

  shown(frameId, t) {
    this.frames.push([frameId, t]);
  }

  /**
   * Send the stamps that wait, up to a time. The message is as old as its last stamp: the session takes it
   * that everything before a message's time has arrived, and a press may still be on its way to its handler.
   */
  flushShown(until = Infinity) {
    for (;;) {
      let size = 0;
      while (size < Math.min(this.frames.length, BATCH_FRAMES) && this.frames[size][1] <= until) size += 1;
      if (size === 0) return;
      const frames = this.frames.splice(0, size);
      this.send("shown", { frames }, { t: frames.at(-1)[1] });
    }
  }

  beat() {
    if (!this.socket) return;
    if (performance.now() - this.heard > SILENT_MS) { this.drop(); return; }
    this.write({ type: "ping", t: now() });
  }

  /** Give up a connection that is dead: its closing handshake would wait for an answer for seconds more. */
  drop() {
    const { socket } = this;
    if (!socket) return;
    this.lose({ code: 0, reason: "" });
    socket.close();
  }

  receive(data) {
    this.heard = performance.now();
    let message;
    try { message = JSON.parse(data); } catch { return; }
    if (message.type === "ack") { this.acknowledged(message); return; }
    if (message.type === "error") { this.refused(message); return; }
    if (message.type === "welcome") this.welcomed();
    this.emit(message.type, message);
  }

  welcomed() {
    this.ready = true;
    this.greeted = true;
    this.failures = 0;
    this.emit("state", { state: "open" });
    for (const message of this.outbox.all()) this.write(message);
  }

  acknowledged({ uuid: id, seq }) {
    const message = this.outbox.remove(id);
    this.refusals.delete(id); // what the machine makes no use of is in the log all the same
    const start = this.startedAt.get(id);
    this.startedAt.delete(id);
    if (!message || message.kind === "shown") return;
    this.emit("stored", { uuid: id, seq, kind: message.kind, message });
    this.emit("pending", { count: this.outbox.size });
    if (start !== undefined) recordLatency(message.kind, start);
  }

  refused(error) {
    if (error.uuid && FINAL.has(error.code)) {
      const message = this.outbox.remove(error.uuid);
      if (message && message.kind !== "shown") this.refusals.add(error.uuid);
      this.startedAt.delete(error.uuid);
      this.emit("dropped", { uuid: error.uuid, kind: message?.kind, event: message, message: error.message });
      this.emit("pending", { count: this.outbox.size });
    }
    // "too_fast" asks for nothing: the server reads the rest a little later, and loses none of it.
    this.emit("error", error);
  }
}
