/** Pause, single step, speed, next episode, reset: for environments and for streamed text. */

import { announce, button, el, setText, show } from "./dom.js";
import { askToFinish } from "./finished.js";

const FASTEST_S = 0.02, SLOWEST_S = 2;

export class Transport {
  /**
   * @param {{link: Link, role: string, owner: boolean, leave: function}} context
   * @param {{next: string, again: string, what: string}} words next: what comes after an episode; again: the
   *   same from its start; what: things per second
   */
  constructor({ link, role, owner, leave }, words) {
    this.link = link;
    this.words = words;
    this.paused = true;
    this.watching = role === "viewer";
    const off = { disabled: this.watching };
    this.play = button("Pause", () => this.toggle(), { id: "play", ...off });
    this.stepButton = button("One step", () => this.step(), { id: "step", ...off });
    this.nextButton = button(words.next, () => this.control("next_episode"), { id: "next", ...off });
    this.resetButton = button(words.again, () => this.reset(), { id: "reset", ...off });
    this.finishButton = button("Finish", () => askToFinish(link, leave), { id: "finish", disabled: this.watching && !owner });
    this.slider = el("input", { type: "range", id: "speed", min: 0, max: 100, step: 1, value: 50, ...off,
      on: { input: () => this.slide(), change: () => this.slide(true) } });
    this.speedText = el("output", { for: "speed", id: "speed-text" });
    this.element = el("div", { class: "transport", role: "group", "aria-label": "Running" }, this.play, this.stepButton,
      this.nextButton, el("div", { class: "speed" }, el("label", { for: "speed", text: "Speed" }), this.slider, this.speedText),
      this.resetButton, this.finishButton);
    this.hide = () => this.background();
    this.go = () => { this.going = true; };
    document.addEventListener("visibilitychange", this.hide);
    addEventListener("pagehide", this.go);
  }

  remove() {
    document.removeEventListener("visibilitychange", this.hide);
    removeEventListener("pagehide", this.go);
  }

  /** In a background tab nothing is drawn, and silence would be taken for an opinion. */
  background() {
    // A page that is reloaded or closed is hidden, too; without a page the session waits by itself.
    if (document.hidden && !this.going && !this.watching && !this.paused) {
      this.pause();
      announce("Paused, since this page was in the background.");
    }
  }

  bindings() {
    const free = (run) => () => { if (!this.watching) run(); };
    return [
      { keys: ["p"], what: "Pause and go on", run: free(() => this.toggle()) },
      { keys: ["s"], what: "One step", repeat: true, run: free(() => this.step()) },
      { keys: [".", ">"], shown: ["."], what: "Faster", repeat: true, run: free(() => this.nudge(5)) },
      { keys: [",", "<"], shown: [","], what: "Slower", repeat: true, run: free(() => this.nudge(-5)) },
      { keys: ["n"], what: this.words.next, run: free(() => this.control("next_episode")) },
      { keys: ["r"], what: this.words.again, run: free(() => this.reset()) },
    ];
  }

  control(what, value = null) {
    this.link.send("control", value === null ? { do: what } : { do: what, value });
  }

  toggle() {
    this.control(this.paused ? "resume" : "pause");
    announce(this.paused ? "Going on" : "Paused");
    this.panel({ paused: !this.paused }); // at once, as in ControlScreen.toggleTraining
  }

  pause() {
    if (!this.paused) this.control("pause");
  }

  step() {
    this.control("step");
  }

  reset() {
    this.control("reset");
    announce(this.words.again);
  }

  panel({ paused, speed }) {
    if (paused !== undefined) {
      this.paused = Boolean(paused);
      setText(this.play, this.paused ? "Go on" : "Pause");
    }
    if (Number.isFinite(speed) && !this.sliding) {
      this.slider.value = position(speed);
      this.write(speed);
    }
  }

  /** The slider runs over seconds a step in equal ratios, right is faster. */
  slide(done = false) {
    const seconds = period(Number(this.slider.value));
    this.write(seconds);
    this.sliding = !done;
    // While the slider moves, the session follows ten times a second; a log of every pixel helps nobody.
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.control("speed", seconds), done ? 0 : 100);
  }

  nudge(by) {
    this.slider.value = Math.max(0, Math.min(100, Number(this.slider.value) + by));
    this.slide(true);
  }

  write(seconds) {
    const text = `${show(1 / seconds, 2)} ${this.words.what} per second`;
    setText(this.speedText, text);
    this.slider.setAttribute("aria-valuetext", text);
  }
}

function period(at) {
  return Number((SLOWEST_S * (FASTEST_S / SLOWEST_S) ** (at / 100)).toPrecision(3));
}

function position(seconds) {
  const at = (100 * Math.log(seconds / SLOWEST_S)) / Math.log(FASTEST_S / SLOWEST_S);
  return Math.round(Math.max(0, Math.min(100, at)));
}
