/** Teaching a learner in an environment: its picture, the reward keys, the panel, the curves and the maps. */

import { timeOf } from "./clock.js";
import { announce, button, count, el, kbd, setText, show, signed } from "./dom.js";
import { Keys, dialog } from "./keys.js";
import { Learned } from "./learned.js";
import { PressStrip } from "./presses.js";
import { soon } from "./soon.js";
import { Stage } from "./stage.js";
import { Transport } from "./transport.js";

const TELL_MS = 100;

export const PRESSES = [
  { value: 1, keys: ["/", "+", "=", "ArrowUp"], shown: ["/", "+", "ArrowUp"], what: "Good: +1" },
  { value: -1, keys: ["z", "-", "ArrowDown"], shown: ["z", "-", "ArrowDown"], what: "Bad: −1" },
  { value: 10, keys: ["?"], what: "Very good: +10" },
  { value: -10, keys: ["Z"], what: "Very bad: −10" },
];

export class ControlScreen {
  /**
   * @param {{link: Link, session: string, annotator: string, memory: string, role: string, leave: function}} context
   *   memory: the key under which the browser remembers this person in this session
   */
  constructor(context) {
    this.context = context;
    this.link = context.link;
    this.watching = context.role === "viewer";
    this.stage = new Stage((frame, t) => this.drawn(frame, t));
    this.strip = new PressStrip("step", context.memory);
    this.transport = new Transport(context, { next: "Next episode", again: "Episode again", what: "steps" });
    this.learned = new Learned();
    this.facts = el("div", { class: "facts" });
    this.training = button("Training", () => this.toggleTraining(), { id: "training", "aria-pressed": "false", disabled: this.watching });
    this.undoButton = button("Undo", () => this.undo(), { id: "undo", disabled: true });
    this.element = this.build();
    this.keys = new Keys(this.bindings());
    this.strip.follow(this.link, () => this.offerUndo());
  }

  build() {
    const title = el("h1", { class: "hidden", text: `Teach: ${this.context.session}` });
    const pad = el("div", { class: "pad", role: "group", "aria-label": "Reward keys" },
      ...[[-10, "bad", "⇧Z"], [-1, "bad", "Z"], [1, "good", "/"], [10, "good", "?"]].map(([value, tone, key]) => {
        const node = button("", (event) => this.press(value, event), {
          class: tone, id: `press${value}`, disabled: this.watching, "aria-label": `${value > 0 ? "Reward" : "Punish"} ${signed(value)}`,
        });
        node.append(el("span", { text: signed(value) }), el("span", { class: "keyline" }, kbd(key)));
        return node;
      }));
    this.pad = pad;
    const head = el("div", { class: "stage-head" }, this.training, this.undoButton,
      this.watching ? el("span", { class: "pill", text: "You are watching; somebody else trains" }) : null, this.facts);
    this.stageCard = el("section", { class: "card stage", "aria-label": "The learner at work" }, head, this.stage.element, this.strip.element);
    return el("div", { class: "control" }, title,
      el("div", { class: "left" }, this.stageCard, pad, el("div", { class: "card" }, this.transport.element)),
      el("div", { class: "right" }, this.learned.element));
  }

  bindings() {
    const free = (run) => (event) => { if (!this.watching) run(event); };
    return [
      ...PRESSES.map(({ value, ...rest }) => ({ ...rest, run: free((event) => this.press(value, event)) })),
      { keys: [" "], what: "Training on or off", run: free(() => this.toggleTraining()) },
      { keys: ["u", "Backspace"], what: "Undo the last press", run: free(() => this.undo()) },
      ...this.transport.bindings(),
      { keys: ["h", "F1"], shown: ["h"], what: "This help", run: () => this.help() },
    ];
  }

  /** A key or button of reward: the page answers now, the store and the learner a few milliseconds later. */
  press(value, event) {
    const t = timeOf(event);
    const uuid = this.link.send("press", { value }, { t, frameId: this.stage.log.at(t) });
    this.strip.add(uuid, value);
    soon(() => this.answer(value));
  }

  answer(value) {
    this.stage.flash(value > 0);
    this.offerUndo();
    if (this.panel && !this.panel.training && !this.hinted) {
      this.hinted = true;
      announce("Training is off: this press teaches nothing. Press space to switch it on.");
    }
  }

  undo() {
    const uuid = this.strip.lastOpen();
    if (!uuid) return;
    this.link.send("undone", { uuid });
    this.strip.undo(uuid);
    this.offerUndo();
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

  drawn(frame, t) {
    this.link.shown(frame.frame_id, t);
    this.latest = frame;
    this.telling ??= setTimeout(() => this.tell(), TELL_MS);
  }

  /** What stands beside the picture follows it at a reader's pace: each change is a layout of the page. */
  tell() {
    this.telling = null;
    this.learned.mark(this.latest.state);
    this.stage.describe(this.latest);
    this.showFacts(this.latest);
  }

  showFacts(frame) {
    const action = frame.over ? "episode over" : this.learned.actions[frame.action] ?? frame.action;
    const facts = [["Episode", frame.episode], ["Step", frame.env_step], ["Return", show(frame.return)], ["Action", action]];
    if (!this.factNodes) {
      this.factNodes = new Map(facts.map(([name]) => [name, el("b")]));
      this.facts.replaceChildren(...facts.map(([name]) => el("span", {}, `${name} `, this.factNodes.get(name))));
    }
    for (const [name, value] of facts) setText(this.factNodes.get(name), value ?? "–");
  }

  welcome({ view = {} }) {
    this.learned.view(view);
    if (view.frame) this.stage.frame({ type: "frame", ...view.frame });
    if (view.panel) this.showPanel(view.panel);
    this.offerUndo();
  }

  message(message) {
    if (message.type === "frame") this.stage.frame(message);
    else if (message.type === "panel") this.showPanel(message);
    else if (message.type === "pressed") this.pressed(message);
    else if (message.type === "error" && message.code === "machine_failed") this.stage.stop(message.message);
    else this.learned.message(message);
  }

  pressed({ uuid, value, credited, undone }) {
    if (undone) {
      this.strip.undo(undone);
      announce(credited ? "The press is taken back." : "The press is taken back in the log; what it taught was learnt already.");
      return;
    }
    if (!this.strip.credit(uuid, credited) && value) {
      this.strip.add(uuid, value, !this.link.outbox.waiting.has(uuid));
      this.strip.credit(uuid, credited);
      this.stage.flash(value > 0);
    }
    if (Number.isFinite(credited)) announce(`${signed(value)}, for ${count(credited, "step")}`);
  }

  showPanel(panel) {
    this.panel = { ...this.panel, ...panel };
    const { training } = this.panel;
    setText(this.training, training ? "Training is on" : "Training is off");
    this.training.setAttribute("aria-pressed", String(Boolean(training)));
    this.transport.panel(this.panel);
    this.learned.panel(this.panel);
    this.stage.veil(this.panel.paused ? "Paused" : null, this.watching ? null : () => this.transport.toggle());
  }

  help() {
    dialog("How to teach", el("p", { text:
      "Watch what the learner does and press at once when it does something good or bad. A press counts for what was on your screen while you made up your mind, a fraction of a second ago. Silence while training is on means: nothing to say." }),
    el("h3", { text: "Keys" }), this.keys.list());
  }

  leave() {
    if (!this.watching) this.transport.pause();
  }

  remove() {
    clearTimeout(this.telling);
    this.keys.remove();
    this.transport.remove();
    this.learned.remove();
  }
}
