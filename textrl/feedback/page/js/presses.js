/** The last presses, newest first: dashed until stored, then filled, with the steps each was credited to. */

import { el, setText, signed } from "./dom.js";
import { recall, remember } from "./memory.js";
import { soon } from "./soon.js";

const RATINGS = new Set(["press", "span"]);
const MOST = 12;
const KEPT = 100; // what can be undone after the page was closed and opened again

export class PressStrip {
  /**
   * @param {string} unit what a press is credited to
   * @param {string|null} owner session and person, to know one's presses again after a reload
   */
  constructor(unit, owner) {
    this.unit = unit;
    this.key = `given:${owner}`;
    this.presses = new Map(); // uuid -> {value, node, undone}
    this.empty = el("li", { class: "empty", text: "Your presses appear here." });
    this.element = el("ul", { class: "strip", "aria-label": "Your last presses" }, this.empty);
    this.remembered();
  }

  remembered() {
    try {
      for (const [uuid, value] of JSON.parse(recall(this.key) ?? "[]")) this.add(uuid, value, true);
    } catch {
      remember(this.key, null); // written by something else
    }
  }

  /** Write down what can still be undone. */
  keep() {
    const open = [...this.presses].filter(([, press]) => !press.undone).map(([uuid, press]) => [uuid, press.value]);
    remember(this.key, JSON.stringify(open.slice(-KEPT)));
  }

  add(uuid, value, stored = false) {
    if (this.presses.has(uuid)) return;
    const node = el("li", { class: `chip ${value > 0 ? "good" : "bad"}${stored ? " stored" : ""}`, data: { uuid } }, signed(value));
    this.presses.set(uuid, { value, node, undone: false });
    // Known at once, so that an acknowledgement finds it; seen in the task after.
    soon(() => this.insert(uuid, node));
    // The list of what can be undone is longer than what is drawn, but not endless.
    if (this.presses.size > KEPT) this.presses.delete(this.presses.keys().next().value);
  }

  insert(uuid, node) {
    if (!this.presses.has(uuid)) return; // refused meanwhile
    this.empty.remove();
    this.element.prepend(node);
    while (this.element.children.length > MOST) this.element.lastChild.remove();
  }

  /** Hear from the link what became of each press, and tell when what can be taken back may have changed. */
  follow(link, changed) {
    link.on("stored", ({ uuid, message }) => { this.stored(uuid, message); changed(); })
      .on("dropped", ({ uuid, event }) => {
        if (event?.kind === "undone") this.reopen(event.payload.uuid);
        else this.remove(uuid);
        changed();
      });
  }

  stored(uuid, message) {
    // One that an earlier page of this browser gave can be taken back here, too.
    if (RATINGS.has(message.kind)) this.add(uuid, message.payload.value);
    if (!this.presses.has(uuid)) return;
    this.presses.get(uuid).node.classList.add("stored");
    this.keep();
  }

  /** Write how many steps a press counted for; tells whether the press is one of ours. */
  credit(uuid, credited) {
    const press = this.presses.get(uuid);
    if (!press) return false;
    if (Number.isFinite(credited)) {
      press.small ??= press.node.appendChild(el("small"));
      setText(press.small, `${credited} ${credited === 1 ? this.unit : `${this.unit}s`}`);
    }
    return true;
  }

  /** The uuid of the newest press that was not taken back. */
  lastOpen() {
    return [...this.presses].reverse().find(([, press]) => !press.undone)?.[0] ?? null;
  }

  undo(uuid) {
    const press = this.presses.get(uuid);
    if (!press || press.undone) return;
    press.undone = true;
    this.keep();
    press.node.classList.add("undone");
    press.node.append(el("span", { class: "hidden", text: " (taken back)" }));
  }

  /** Taking it back was refused, so it counts. */
  reopen(uuid) {
    const press = this.presses.get(uuid);
    if (!press?.undone) return;
    press.undone = false;
    this.keep();
    press.node.classList.remove("undone");
    press.node.querySelector(".hidden")?.remove();
  }

  remove(uuid) {
    this.presses.get(uuid)?.node.remove();
    this.presses.delete(uuid);
  }
}
