/** Rating text while it appears: the stream, the two keys, passages, the samples so far, calibration. */

import { timeOf } from "./clock.js";
import { DelayTrials } from "./delay.js";
import { announce, button, count, el, kbd, setText, show, signed } from "./dom.js";
import { Keys, dialog } from "./keys.js";
import { Learned } from "./learned.js";
import { PressStrip } from "./presses.js";
import { soon } from "./soon.js";
import { Stream } from "./stream.js";
import { Transport } from "./transport.js";

const PAST = 6;

export class TextScreen {
  constructor(context) {
    this.context = context;
    this.link = context.link;
    this.watching = context.role === "viewer";
    this.stream = new Stream({
      drawn: (id, t) => this.link.shown(id, t),
      selected: (range) => this.offer(range),
    });
    this.strip = new PressStrip("token", context.memory);
    this.transport = new Transport(context, { next: "Next text", again: "Write it again", what: "tokens" });
    this.learned = new Learned(["score", "changed"]);
    this.samples = new Map();
    this.past = el("ol", { class: "past" });
    this.delay = el("p", { class: "soft", id: "delay", text: "Not measured yet: the usual delay of people is assumed." });
    this.element = this.build();
    this.keys = new Keys(this.bindings());
    this.strip.follow(this.link, () => this.offerUndo());
    this.link.on("dropped", ({ uuid }) => this.stream.unrate(uuid));
  }

  build() {
    const off = { disabled: this.watching };
    this.training = button("Training is on", () => this.toggleTraining(), { id: "training", "aria-pressed": "true", ...off });
    this.undoButton = button("Undo", () => this.undo(), { id: "undo", disabled: true });
    this.facts = el("div", { class: "facts" });
    this.bar = el("div", { class: "span-bar", hidden: true, role: "group", "aria-label": "Rate the marked passage" },
      el("span", { id: "span-words" }),
      button("Good +1", () => this.rateSpan(1), { class: "good", id: "span-good" }),
      button("Bad −1", () => this.rateSpan(-1), { class: "bad", id: "span-bad" }),
      button("Cancel", () => this.stream.clear(), { class: "quiet" }));
    this.scores = el("input", { type: "checkbox", id: "scores", on: { change: () => this.stream.showScores(this.scores.checked) } });
    const pad = el("div", { class: "pad two", role: "group", "aria-label": "Rate what appears" },
      this.padButton(-1, "bad", "−"), this.padButton(1, "good", "+"));
    const reading = el("section", { class: "card stage", "aria-label": "The text as it is written" },
      el("div", { class: "stage-head" }, this.training, this.undoButton,
        this.watching ? el("span", { class: "pill", text: "You are watching; somebody else rates" }) : null, this.facts),
      this.stream.element, this.bar,
      el("p", { class: "text-key" }, el("span", { class: "rated-good", text: "rated good" }),
        el("span", { class: "rated-bad", text: "rated bad" }), el("span", { class: "changed", text: "changed by your ratings" })),
      this.strip.element);
    return el("div", { class: "control text-screen" }, el("h1", { class: "hidden", text: `Rate text: ${this.context.session}` }),
      el("div", { class: "left" }, reading, pad, el("div", { class: "card" }, this.transport.element)),
      el("div", { class: "right" }, this.learned.element, this.more()));
  }

  padButton(value, tone, key) {
    const node = button("", (event) => this.press(value, event), {
      class: tone, id: `press${value}`, disabled: this.watching, "aria-label": value > 0 ? "Good" : "Bad",
    });
    node.append(el("span", { text: value > 0 ? "Good" : "Bad" }), el("span", { class: "keyline" }, kbd(key)));
    return node;
  }

  more() {
    const prompt = el("textarea", { id: "prompt", rows: 2, maxlength: 2000, disabled: this.watching });
    const send = () => {
      const text = prompt.value;
      if (!text.trim()) { prompt.focus(); return; }
      this.link.send("prompt", { text });
      prompt.value = "";
      announce("The next text goes on from your prompt.");
    };
    return el("div", { class: "right" },
      el("section", { class: "card", "aria-label": "Your delay" }, el("h2", { text: "Your delay" }), this.delay,
        button("Measure it", () => this.calibrate(), { id: "calibrate", disabled: this.watching })),
      el("section", { class: "card" }, el("label", { for: "prompt", text: "A prompt of your own" }), prompt,
        button("Use it next", send, { id: "send-prompt", disabled: this.watching })),
      el("section", { class: "card" }, el("div", { class: "row" }, el("h2", { text: "Texts so far" }),
        el("label", { class: "check", for: "scores" }, this.scores, "Shade by expected approval")), this.past));
  }

  bindings() {
    const free = (run) => (event) => { if (!this.watching) run(event); };
    const rate = (value) => free((event) => (this.stream.range ? this.rateSpan(value) : this.press(value, event)));
    return [
      { keys: ["+", "=", "/", "ArrowUp"], shown: ["+", "/"], what: "Good: what just appeared, or the marked passage", run: rate(1) },
      { keys: ["-", "_", "z", "ArrowDown"], shown: ["-", "z"], what: "Bad: the same", run: rate(-1) },
      { keys: ["ArrowLeft", "ArrowRight"], what: "Mark a word; with Shift, a longer passage", repeat: true, run: free((event) => this.stream.move(event)) },
      { keys: ["Escape"], what: "Unmark", run: () => this.stream.clear() },
      { keys: ["u", "Backspace"], what: "Undo the last rating", run: free(() => this.undo()) },
      { keys: [" "], what: "Training on or off", run: free(() => this.toggleTraining()) },
      ...this.transport.bindings(),
      { keys: ["c"], what: "Measure your delay", run: free(() => this.calibrate()) },
      { keys: ["h", "F1"], shown: ["h"], what: "This help", run: () => this.help() },
    ];
  }

  press(value, event) {
    const t = timeOf(event);
    const uuid = this.link.send("press", { value }, { t, frameId: this.stream.log.at(t) });
    this.strip.add(uuid, value);
    soon(() => {
      this.stream.flash(value > 0);
      this.offerUndo();
    });
  }

  /** A passage was marked, or unmarked: offer the two ratings. */
  offer(range) {
    this.bar.hidden = !range || this.watching;
    if (!range) return;
    setText(this.bar.firstChild, `“${range.text.trim().slice(0, 60)}${range.text.length > 60 ? "…" : ""}”`);
    announce(`Marked: ${range.text}`);
  }

  rateSpan(value) {
    const { range } = this.stream;
    if (!range) return;
    const uuid = this.link.send("span", { start_token: range.start, end_token: range.end, value }, { frameId: range.end });
    this.strip.add(uuid, value);
    this.stream.rate(range.ids, value, uuid);
    this.stream.clear();
    this.offerUndo();
    announce(`Rated ${value > 0 ? "good" : "bad"}`);
  }

  undo() {
    const uuid = this.strip.lastOpen();
    if (!uuid) return;
    this.link.send("undone", { uuid });
    this.strip.undo(uuid); // the colours go when the server says that what it taught is forgotten
    this.offerUndo();
    announce("The last rating is taken back; what it taught is forgotten.");
  }

  offerUndo() {
    this.undoButton.disabled = this.watching || !this.strip.lastOpen();
  }

  toggleTraining() {
    const training = !(this.panel?.training ?? true);
    this.link.send("control", { do: "training", value: training });
    // At once, so that a second press before the server's answer switches back.
    this.showPanel({ training });
    announce(training ? "Training on" : "Training off");
  }

  calibrate() {
    if (this.trials) return;
    this.transport.pause();
    this.trials = new DelayTrials(this.link, () => { this.trials = null; });
    this.trials.open();
  }

  welcome({ view = {} }) {
    if (view.panel) this.showPanel(view.panel);
    for (const sample of view.samples ?? []) this.showSample(sample);
    if (view.sample) this.stream.begin(view.sample);
    this.stream.keep(view.tokens ?? []);
    this.stream.restore(view.ratings ?? []);
    if (view.delay) this.showDelay(view.delay);
    this.learned.view(view);
    this.offerUndo();
  }

  message(message) {
    switch (message.type) {
      case "token": this.stream.token(message); break;
      case "sample": if (message.done) this.finished(message); else this.stream.begin(message); break;
      case "rated": this.rated(message); break;
      case "pressed": this.pressed(message); break;
      case "panel": this.showPanel(message); break;
      case "delay": this.showDelay(message); break;
      case "error": if (message.code === "machine_failed") this.stream.stop(message.message); break;
      default: this.learned.message(message);
    }
  }

  rated({ frame_ids: ids, value, uuid, undone }) {
    if (undone) {
      this.stream.unrate(uuid);
      this.strip.undo(uuid);
    } else {
      this.stream.rate(ids, value, uuid);
      if (this.watching) this.strip.add(uuid, value, true);
    }
  }

  pressed({ uuid, value, credited }) {
    if (!this.strip.credit(uuid, credited)) {
      this.strip.add(uuid, value, !this.link.outbox.waiting.has(uuid));
      this.stream.flash(value > 0);
    }
    if (Number.isFinite(credited)) announce(`${signed(value)}, for ${count(credited, "token")}`);
  }

  showPanel(panel) {
    this.panel = { ...this.panel, ...panel };
    const { training, paused, presses } = this.panel;
    setText(this.training, training ? "Training is on" : "Training is off");
    this.training.setAttribute("aria-pressed", String(Boolean(training)));
    setText(this.facts, [count(presses ?? 0, "rating"), paused ? "paused" : null].filter(Boolean).join(" · "));
    this.transport.panel(this.panel);
    this.stream.pause(Boolean(paused));
  }

  finished(sample) {
    this.showSample(sample);
    const changed = sample.changed ? `; you changed ${count(sample.changed, "token")}` : "";
    announce(`Text ${sample.sample} is finished${changed}.`);
  }

  /** Finished texts stand below each other, newest first, with what the model now expects of them. */
  showSample(sample) {
    this.samples.get(sample.sample)?.remove();
    const facts = [Number.isFinite(sample.mean_score) ? `expected approval ${signed(sample.mean_score)}` : null,
      sample.changed ? `${count(sample.changed, "token")} changed by you` : null].filter(Boolean).join(" · ");
    const node = el("li", { value: sample.sample }, el("span", { class: "prompt-text", text: sample.prompt ?? "" }),
      el("span", { text: sample.text ?? "" }), facts ? el("span", { class: "sample-facts", text: facts }) : null);
    this.samples.set(sample.sample, node);
    this.past.prepend(node);
    while (this.past.children.length > PAST) this.past.lastChild.remove();
  }

  showDelay({ fitted_s: fitted, sd_s: spread, trials }) {
    this.trials?.fitted({ fitted_s: fitted, sd_s: spread, trials });
    if (!Number.isFinite(fitted)) return;
    setText(this.delay, `${show(fitted, 2)} s, give or take ${show(spread, 2)} s, from ${count(trials, "trial")}. Presses are credited by it.`);
  }

  help() {
    dialog("How to rate text", el("p", { text:
      "Read along and press + or − as soon as you like or dislike what you read; the press counts for the words you had just read. To be exact, mark a passage: click a word, drag, or use the arrow keys, and then press + or −." }),
    el("h3", { text: "Keys" }), this.keys.list());
  }

  leave() {
    if (!this.watching) this.transport.pause();
  }

  remove() {
    this.trials?.close();
    this.keys.remove();
    this.transport.remove();
    this.stream.remove();
    this.learned.remove();
  }
}
