/** Comparing responses: one item at a time, keyboard first. */

import { now } from "./clock.js";
import { Agreement } from "./agreement.js";
import { Board } from "./board.js";
import { announce, button, count, el, setText, show } from "./dom.js";
import { Keys, dialog } from "./keys.js";
import { recall, remember } from "./memory.js";
import { askToFinish, tick } from "./finished.js";
import { append, fromRanks, move, ranks, say, toggleTie, without } from "./order.js";
import { Response } from "./response.js";

const IDLE_S = 120; // a longer silence is a break, not work on the item
const PLAIN = "Read the prompt and all responses. Put the responses into order, best first; make two of them a tie when neither is better. "
  + "Say how good each is from 1 to 7 and tick the flags that apply. Skip an item that you cannot judge.";

export class RankScreen {
  constructor(context) {
    this.context = context;
    this.link = context.link;
    this.item = null;
    this.order = [];
    this.chosen = null;
    this.responses = [];
    this.given = []; // uuids of what can be taken back, oldest first
    this.board = new Board({ picked: (index) => this.pick(index), reordered: (order, index) => this.set(order, index) });
    this.finishButton = context.owner ? button("Finish", () => askToFinish(this.link, context.leave), { id: "finish" }) : null;
    this.agreement = new Agreement(this.finishButton);
    this.element = this.build();
    this.keys = new Keys(this.bindings());
    this.active = () => this.work();
    for (const type of ["keydown", "pointerdown", "scroll", "wheel"]) addEventListener(type, this.active, { passive: true, capture: true });
    this.link.on("dropped", ({ uuid, kind }) => this.refused(uuid, kind));
  }

  build() {
    this.prompt = el("p", { class: "prompt" });
    this.grid = el("div", { class: "responses" });
    this.meter = el("progress", { class: "meter", "aria-label": "Items done", max: 1, value: 0 });
    this.done = el("span", { id: "progress-text", text: "" });
    this.pace = el("span", { class: "soft", id: "pace" });
    this.submitButton = button("Submit", () => this.submit(), { class: "primary", id: "submit", "aria-describedby": "why" });
    this.skipButton = button("Skip", () => this.skip(), { id: "skip" });
    this.undoButton = button("Undo", () => this.undo(), { id: "undo", disabled: true });
    this.why = el("p", { class: "soft", id: "why" });
    this.work_ = el("div", { class: "rank" },
      el("div", { class: "left" }, el("section", { class: "card", "aria-label": "Prompt" }, el("h2", { text: "Prompt" }), this.prompt), this.grid),
      el("aside", { class: "card side", "aria-label": "Your ranking" }, el("h2", { class: "side-title", text: "Your ranking" }), this.board.element,
        el("div", { class: "actions" }, this.submitButton, this.skipButton, this.undoButton), this.why));
    this.wait = el("p", { class: "soft centre", text: "Waiting for the next item…" });
    this.work_.hidden = true;
    this.over = el("section", { class: "card narrow finished", id: "all-done", hidden: true }, tick(),
      el("h2", { class: "big", text: "All done. Thank you!" }),
      el("p", { text: "There is nothing left for you to compare. You may close this page." }),
      this.again = el("p", { class: "soft", text: "Undo brings the last item back." }),
      el("div", { class: "actions centre" }, this.undoLast = button("Undo", () => this.undo(), { id: "undo-last" }),
        button("Leave", () => this.context.leave(), { class: "primary" })));
    return el("div", {}, el("h1", { class: "hidden", text: `Compare responses: ${this.context.session}` }),
      el("div", { class: "rank-head" }, this.meter, this.done, this.pace,
        button("Instructions", () => this.instructions(), { class: "quiet", id: "instructions" })),
      this.agreement.element, this.wait, this.over, this.work_);
  }

  /** Exactly one of the three is on the screen. */
  stage(what) {
    this.work_.hidden = what !== "work";
    this.wait.hidden = what !== "wait";
    this.over.hidden = what !== "over";
  }

  bindings() {
    const digits = Array.from({ length: 9 }, (_, index) => String(index + 1));
    return [
      { keys: digits, shown: ["1…9"], what: "Choose a response; its first time also gives it the next place", run: (_, key) => this.number(Number(key) - 1) },
      { keys: ["ArrowUp", "ArrowLeft"], shown: ["ArrowUp"], what: "Better: one place up", repeat: true, run: () => this.shift(-1) },
      { keys: ["ArrowDown", "ArrowRight"], shown: ["ArrowDown"], what: "Worse: one place down", repeat: true, run: () => this.shift(1) },
      { keys: ["=", "t"], what: "Tie with the one above, or undo the tie", run: () => this.tie() },
      { keys: ["Backspace", "Delete"], shown: ["Backspace"], what: "Take it out of the ranking", run: () => this.unplace() },
      { keys: digits.slice(0, 7).map((digit) => `Shift+${digit}`), shown: ["⇧1…7"], what: "Quality of the chosen response", run: (_, key) => this.score(Number(key.at(-1))) },
      { keys: ["f"], what: "Flags of the chosen response", run: () => this.openFlags() },
      { keys: ["Enter"], what: "Submit", run: () => this.submit() },
      { keys: ["s"], what: "Skip", run: () => this.skip() },
      { keys: ["u"], what: "Undo what you submitted last", run: () => this.undo() },
      { keys: ["i"], what: "Instructions", run: () => this.instructions() },
      { keys: ["?", "h", "F1"], shown: ["?"], what: "This help", run: () => this.help() },
    ];
  }

  // An item ------------------------------------------------------------------------------------------

  open(item) {
    this.item = item;
    this.order = item.ranks ? fromRanks(item.ranks) : [];
    this.chosen = null;
    this.seconds = 0;
    this.worked = now();
    setText(this.prompt, item.prompt || "(no prompt)");
    this.responses = item.completions.map((text, index) => new Response(index, text, item.flags ?? [],
      { picked: (one) => this.number(one), changed: () => this.refresh() }));
    item.likert?.forEach((value, index) => { this.responses[index].likert = value; });
    item.ticked?.forEach((value, index) => { this.responses[index].flags = value; });
    this.grid.replaceChildren(...this.responses.map((response) => response.element));
    this.grid.dataset.size = item.completions.length;
    this.stage("work");
    this.link.send("opened", { item: item.item });
    this.refresh();
    scrollTo({ top: 0 });
    announce(`Item ${(item.position ?? 0)} of ${item.of ?? "?"}: ${count(item.completions.length, "response")}.`);
    if (recall(`instructed:${this.context.memory}`) === null) this.instructions();
  }

  clear() {
    this.item = null;
    this.order = [];
    this.chosen = null;
    this.responses = [];
  }

  /** Time on the item, without breaks. */
  work() {
    if (!this.item) return;
    const t = now();
    const passed = t - this.worked;
    if (passed < IDLE_S) this.seconds += passed;
    this.worked = t;
  }

  refresh() {
    const size = this.responses.length;
    const places = ranks(this.order, size);
    this.responses.forEach((response, index) => {
      const tied = places[index] !== null && this.order[places[index] - 1].length > 1;
      response.show(places[index], tied, index === this.chosen);
    });
    this.board.show(this.item?.completions ?? [], this.order, this.chosen);
    const left = places.filter((place) => place === null).length;
    this.submitButton.setAttribute("aria-disabled", String(!this.item || left > 0));
    setText(this.why, left ? "Submit opens when every response has a place." : "Enter submits.");
    this.undoButton.disabled = this.given.length === 0;
  }

  set(order, index) {
    this.order = order;
    this.chosen = index ?? this.chosen;
    this.refresh();
    announce(say(order));
  }

  pick(index) {
    this.chosen = index;
    this.refresh();
  }

  number(index) {
    if (!this.item || index >= this.responses.length) return;
    this.set(append(this.order, index), index);
    const { element } = this.responses[index];
    element.scrollIntoView({ block: "nearest" });
  }

  shift(by) {
    if (this.chosen !== null) this.set(move(this.order, this.chosen, by));
  }

  tie() {
    if (this.chosen !== null) this.set(toggleTie(this.order, this.chosen));
  }

  unplace() {
    if (this.chosen !== null) this.set(without(this.order, this.chosen));
  }

  score(value) {
    if (this.chosen === null) { announce("Choose a response first."); return; }
    this.responses[this.chosen].likert = value;
    announce(`Response ${this.chosen + 1}: quality ${value}`);
  }

  openFlags() {
    const response = this.responses[this.chosen ?? 0];
    if (!response) return;
    response.details.open = !response.details.open;
    if (response.details.open) response.boxes.values().next().value?.focus();
  }

  // What is given ------------------------------------------------------------------------------------

  submit() {
    if (!this.item) return;
    const places = ranks(this.order, this.responses.length);
    if (places.includes(null)) {
      announce(`Give every response a place first: ${places.filter((place) => place === null).length} left.`);
      return;
    }
    this.work();
    const payload = {
      item: this.item.item, ranks: places,
      likert: this.responses.map((response) => response.likert),
      flags: this.responses.map((response) => response.flags),
      seconds: Math.round(this.seconds * 10) / 10,
    };
    this.give("ranked", payload, "Submitted.");
  }

  skip() {
    if (this.item) this.give("skipped", { item: this.item.item }, "Skipped.");
  }

  give(kind, payload, words) {
    this.given.push(this.link.send(kind, payload));
    this.clear();
    this.stage("wait");
    this.refresh();
    announce(words);
  }

  undo() {
    const uuid = this.given.pop();
    if (!uuid) return;
    this.link.send("undone", { uuid });
    this.refresh();
    announce("Taken back; the item opens again.");
  }

  /** A judgement that the server did not take: the item of the moment is asked for anew. */
  refused(uuid, kind) {
    this.given = this.given.filter((one) => one !== uuid);
    if (kind === "ranked" || kind === "skipped" || !this.item) this.link.reconnect();
    this.refresh();
  }

  /** @param {boolean} [closed] the session is over for everybody, so that nothing can be taken back */
  allDone(closed = false) {
    if (closed) {
      this.given = [];
      this.finishButton?.remove();
    }
    this.again.hidden = this.undoLast.hidden = closed;
    this.clear();
    this.stage("over");
    this.refresh();
    announce("All done. Thank you!");
  }

  // What comes from the server -----------------------------------------------------------------------

  welcome({ view = {}, finished }) {
    if (view.progress) this.progress(view.progress);
    if (view.agreement) this.agreement.show(view.agreement);
    const waiting = this.link.outbox.all();
    const sent = waiting.filter(({ kind }) => kind === "ranked" || kind === "skipped").map(({ uuid }) => uuid);
    const back = new Set(waiting.filter(({ kind }) => kind === "undone").map(({ payload }) => payload.uuid));
    this.given = [...new Set([...(view.given ?? []), ...sent])].filter((uuid) => !back.has(uuid));
    this.text = view.instructions ?? this.text;
    // Back on the same item: what was already put in order stays.
    if (view.item && !finished && (!this.item || this.item.item !== view.item.item)) this.open(view.item);
    if (view.finished || finished) this.allDone(finished);
    this.refresh();
  }

  message(message) {
    if (message.type === "item") { if (this.item?.item !== message.item) this.open(message); }
    else if (message.type === "finished") this.allDone(message.all);
    else if (message.type === "progress") this.progress(message);
    else if (message.type === "agreement") this.agreement.show(message);
  }

  progress({ done, of, seconds_median: median }) {
    this.meter.max = Math.max(1, of ?? 1);
    this.meter.value = done ?? 0;
    setText(this.done, `${done ?? 0} of ${of ?? "?"} done`);
    setText(this.pace, Number.isFinite(median) ? `${show(median, 2)} s an item (median)` : "");
  }

  instructions() {
    remember(`instructed:${this.context.memory}`, "yes");
    const text = this.item?.instructions || this.text || PLAIN;
    dialog("Instructions", el("p", { class: "instruction-text", text }), el("h3", { text: "Keys" }), this.keys.list());
  }

  help() {
    dialog("Keys", el("p", { text: "Example: 3, then 1, then = and 2, then Enter: response 3 is best, 1 is tied with it, 2 is worst." }), this.keys.list());
  }

  remove() {
    this.keys.remove();
    for (const type of ["keydown", "pointerdown", "scroll", "wheel"]) removeEventListener(type, this.active, { capture: true });
  }
}
