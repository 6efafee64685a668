/**
 * How long a person takes: words run by, some are lit, and the person presses as soon as one is.
 *
 * The moment a word lights up is the animation frame that draws it; the press is stamped by its own event.
 * The server fits median and spread of the differences and credits presses by them from then on.
 */

import { now, timeOf } from "./clock.js";
import { announce, button, el, setText, show } from "./dom.js";
import { dialog } from "./keys.js";

const TRIALS = 12;
const WORD_MS = 330; // an easy reading speed, about three words a second
const EARLIEST = 4, LATEST = 9; // words between two that are lit
const MISSED_S = 2.5;
const WORDS = ("the boat left the harbour before the sun was up and the two of them sat without a word while the nets dried "
  + "behind them a gull kept pace over the water and far out the islands showed as a thin grey line that grew slowly until the "
  + "trees could be told apart and somebody on the shore lifted a hand").split(" ");

export class DelayTrials {
  /** @param {Link} link @param {function} closed */
  constructor(link, closed) {
    this.link = link;
    this.closed = closed;
    this.delays = [];
    this.done = 0;
    this.word = el("p", { class: "cue-word", text: "Ready?" });
    this.progress = el("p", { class: "soft", text: `${TRIALS} words will light up, at moments you cannot foresee.` });
    this.hit = button("Begin", (event) => this.pressed(event), { class: "primary cue-button", id: "cue" });
    this.result = el("p", { id: "delay-result" });
    this.key = (event) => this.keydown(event);
  }

  open() {
    this.box = dialog("How fast are you?",
      el("p", { text: "Press space, + or the button as soon as a word lights up. Do not guess ahead." }),
      this.word, this.hit, this.progress, this.result);
    this.box.classList.add("calibration");
    this.box.addEventListener("close", () => this.close());
    this.box.addEventListener("keydown", this.key);
    this.hit.focus();
  }

  close() {
    clearTimeout(this.timer);
    this.running = false;
    if (this.box?.open) this.box.close();
    this.closed();
  }

  keydown(event) {
    if (![" ", "+", "=", "-", "/"].includes(event.key) || event.repeat || event.target.closest(".dialog-head")) return;
    event.preventDefault();
    this.pressed(event);
  }

  pressed(event) {
    if (this.over) { this.box.close(); return; }
    if (!this.running) { this.begin(); return; }
    if (this.cueT === null) {
      setText(this.progress, "Too early: wait for the light.");
      return;
    }
    this.trial(timeOf(event));
  }

  begin() {
    this.running = true;
    this.at = 0;
    this.cueT = null;
    setText(this.hit, "Now!");
    this.nextCue();
    this.tick();
  }

  nextCue() {
    this.until = EARLIEST + Math.floor(Math.random() * (LATEST - EARLIEST + 1));
  }

  /** One word on. */
  tick() {
    if (!this.running) return;
    this.until -= 1;
    const lit = this.until === 0;
    requestAnimationFrame(() => {
      if (!this.running) return;
      setText(this.word, WORDS[this.at % WORDS.length]);
      this.at += 1;
      if (lit) this.cueT = now();
      this.word.classList.toggle("lit", lit);
    });
    if (this.cueT !== null && this.cueT !== undefined && now() - this.cueT > MISSED_S) this.trial(null);
    this.timer = setTimeout(() => this.tick(), WORD_MS * (0.8 + 0.4 * Math.random()));
  }

  trial(pressT) {
    this.link.send("delay_trial", { cue_t: this.cueT, press_t: pressT });
    if (pressT !== null) this.delays.push(pressT - this.cueT);
    this.cueT = null;
    this.word.classList.remove("lit");
    this.done += 1;
    setText(this.progress, pressT === null ? "That one was missed; on with the next." : `${this.done} of ${TRIALS}: ${show(this.delays.at(-1), 2)} s`);
    if (this.done >= TRIALS) this.end();
    else this.nextCue();
  }

  end() {
    this.running = false;
    this.over = true;
    clearTimeout(this.timer);
    setText(this.word, "✓");
    setText(this.hit, "Done");
    const sorted = [...this.delays].sort((a, b) => a - b);
    const middle = sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
    setText(this.progress, middle === null ? "No press came in time. Try again when you like." : `Half of your presses came within ${show(middle, 2)} s.`);
    announce(this.progress.textContent);
  }

  /** The server's fit arrived. */
  fitted({ fitted_s: fitted, sd_s: spread, trials }) {
    if (!Number.isFinite(fitted)) return;
    setText(this.result, `Fitted by the session: ${show(fitted, 2)} s, give or take ${show(spread, 2)} s (${trials} trials).`);
  }
}
