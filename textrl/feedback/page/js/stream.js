/**
 * Text that appears token by token. Each token is stamped at the animation frame that shows it.
 *
 * Tokens are spans with their number; a passage is marked with the mouse or a finger (a click on a word, or
 * a drag over several), or with the arrow keys. Ratings colour them, with an underline that differs in form
 * as well, since colour alone is not seen by everybody.
 */

import { now } from "./clock.js";
import { el, setText } from "./dom.js";
import { ShownLog } from "./shown.js";
import { still } from "./theme.js";

const STRONGEST = 0.34;

export class Stream {
  /** @param {{drawn: function(number, number), selected: function(Object|null)}} calls */
  constructor(calls) {
    this.calls = calls;
    this.tokens = new Map(); // id -> {node, text, score, ratings: Map(uuid -> value)}
    this.ratings = new Map(); // uuid -> ids
    this.log = new ShownLog();
    this.range = null;
    this.waiting = [];
    this.most = 0.1;
    this.prompt = el("span", { class: "prompt-text" });
    this.body = el("span", { class: "tokens" });
    this.caret = el("span", { class: "caret", "aria-hidden": "true" });
    this.note = el("p", { class: "stream-note", hidden: true });
    this.box = el("div", { class: "stream", tabindex: "0", role: "region", "aria-label": "Text; mark words with the arrow keys" },
      this.prompt, this.body, this.caret);
    this.element = el("div", { class: "stream-box" }, this.box, this.note);
    this.body.addEventListener("pointerdown", (event) => this.startDrag(event));
    this.body.addEventListener("pointermove", (event) => this.drag(event));
    this.up = () => { this.from = null; };
    addEventListener("pointerup", this.up);
  }

  remove() {
    removeEventListener("pointerup", this.up);
  }

  /** A new text begins. */
  begin({ sample, prompt, tokens }) {
    if (this.sample === sample && !tokens) return;
    this.sample = sample;
    this.tokens.clear();
    this.ratings.clear();
    this.waiting = [];
    this.clear();
    this.body.replaceChildren();
    setText(this.prompt, prompt ?? "");
  }

  /** @param {boolean} [old] it was on the screen before this page came; it is drawn without a stamp */
  token(token, old = false) {
    if (token.sample !== undefined && token.sample !== this.sample) this.begin({ sample: token.sample, prompt: token.prompt ?? "" });
    if (this.tokens.has(token.frame_id)) return;
    if (old) { this.draw(token); return; }
    this.waiting.push(token);
    if (this.waiting.length === 1) requestAnimationFrame(() => this.drawWaiting());
  }

  /** The tokens of this text as the session has them; a server whose power failed may know fewer. */
  keep(tokens) {
    const known = new Set(tokens.map((token) => token.frame_id));
    for (const [id, { node }] of this.tokens) {
      if (known.has(id)) continue;
      node.remove();
      this.tokens.delete(id);
    }
    for (const token of tokens) this.token(token, true);
  }

  drawWaiting() {
    const tokens = this.waiting.splice(0);
    for (const token of tokens) this.draw(token);
    const t = now();
    for (const { frame_id: id } of tokens) {
      this.log.add(id, t);
      this.calls.drawn(id, t);
    }
  }

  draw(token) {
    this.body.querySelector(".fresh")?.classList.remove("fresh");
    const node = el("span", { class: "token fresh", data: { id: token.frame_id }, text: token.text ?? "" });
    if (token.plain !== undefined) {
      node.classList.add("changed");
      node.title = `without your ratings: “${token.plain}”`;
    }
    if (token.end) node.append(el("span", { class: "end-mark", role: "img", "aria-label": "end of the text" }, "■"));
    this.body.append(node);
    this.tokens.set(token.frame_id, { node, text: token.text ?? "", score: token.score, ratings: new Map() });
    if (Number.isFinite(token.score)) this.most = Math.max(this.most, Math.abs(token.score));
    this.shade(this.tokens.get(token.frame_id));
    this.box.scrollTop = this.box.scrollHeight;
  }

  /** Shade tokens by what the model expects you to think of them. */
  showScores(on) {
    this.scored = on;
    for (const token of this.tokens.values()) this.shade(token);
  }

  shade(token) {
    const share = this.scored && Number.isFinite(token.score) ? Math.min(1, Math.abs(token.score) / this.most) : 0;
    const tone = token.score > 0 ? "var(--good-edge)" : "var(--bad-edge)";
    token.node.style.background = share ? `color-mix(in srgb, ${tone} ${Math.round(100 * STRONGEST * share)}%, transparent)` : "";
    const sum = [...token.ratings.values()].reduce((total, value) => total + value, 0);
    token.node.classList.toggle("rated-good", sum > 0);
    token.node.classList.toggle("rated-bad", sum < 0);
  }

  rate(ids, value, uuid) {
    // The credit that the server reports replaces the page's own guess.
    this.unrate(uuid);
    this.ratings.set(uuid, ids);
    for (const id of ids) {
      const token = this.tokens.get(id);
      if (!token) continue;
      token.ratings.set(uuid, value);
      this.shade(token);
    }
  }

  /** The ratings of this text as the session has them. */
  restore(ratings) {
    for (const key of [...this.ratings.keys()]) this.unrate(key);
    for (const { frame_ids: ids, value, uuid } of ratings) this.rate(ids, value, uuid);
  }

  unrate(uuid) {
    for (const id of this.ratings.get(uuid) ?? []) {
      const token = this.tokens.get(id);
      token?.ratings.delete(uuid);
      if (token) this.shade(token);
    }
    this.ratings.delete(uuid);
  }

  // Marking ------------------------------------------------------------------------------------------

  idAt(event) {
    const node = document.elementFromPoint(event.clientX, event.clientY)?.closest(".token");
    return node && this.body.contains(node) ? Number(node.dataset.id) : null;
  }

  startDrag(event) {
    const id = this.idAt(event);
    if (id === null || event.button !== 0) return;
    event.preventDefault(); // no text selection beside the marking
    this.box.focus({ preventScroll: true });
    event.target.releasePointerCapture?.(event.pointerId);
    this.from = id;
    if (this.range && this.range.start === id && this.range.end === id) this.clear();
    else this.mark(id, id);
  }

  drag(event) {
    if (this.from === null || this.from === undefined) return;
    const id = this.idAt(event);
    if (id !== null && this.range && id !== this.head) this.mark(this.from, id);
  }

  /** Arrow keys: one word on; with Shift the passage grows. */
  move(event) {
    const ids = [...this.tokens.keys()];
    if (!ids.length) return;
    const by = event.key === "ArrowRight" ? 1 : -1;
    if (!this.range) { this.mark(ids.at(-1), ids.at(-1)); return; }
    const next = ids[Math.max(0, Math.min(ids.length - 1, ids.indexOf(this.head) + by))];
    this.mark(event.shiftKey ? this.anchor : next, next);
  }

  mark(anchor, head) {
    this.anchor = anchor;
    this.head = head;
    const [start, end] = anchor < head ? [anchor, head] : [head, anchor];
    const ids = [...this.tokens.keys()].filter((id) => id >= start && id <= end);
    for (const [id, token] of this.tokens) token.node.classList.toggle("marked", id >= start && id <= end);
    this.range = { start, end, ids, text: ids.map((id) => this.tokens.get(id).text).join("") };
    this.calls.selected(this.range);
  }

  clear() {
    if (!this.range) return;
    this.range = null;
    for (const token of this.tokens.values()) token.node.classList.remove("marked");
    this.calls.selected(null);
  }

  // What happens around the text ---------------------------------------------------------------------

  flash(good) {
    this.box.classList.remove("flash-good", "flash-bad");
    void this.box.offsetWidth; // see Stage.flash
    this.box.classList.add(good ? "flash-good" : "flash-bad");
    if (still()) setTimeout(() => this.box.classList.remove("flash-good", "flash-bad"), 200);
  }

  pause(paused) {
    this.caret.classList.toggle("paused", paused);
    if (!this.stopped) this.say(paused ? "Paused. You can mark passages in peace; press p to go on." : null);
  }

  say(text) {
    this.note.hidden = text === null;
    setText(this.note, text ?? "");
  }

  stop(sentence) {
    this.stopped = true;
    this.say(sentence);
  }
}
