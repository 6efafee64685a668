/**
 * The picture of the environment. A frame counts as shown at the animation frame that draws it.
 *
 * Decoding a picture takes milliseconds off the main thread; when pictures come faster than the screen
 * draws, the newest is drawn and the others are passed over. They are never told to have been shown.
 */

import { now } from "./clock.js";
import { button, el, setText, show } from "./dom.js";
import { recordFrameAge } from "./measure.js";
import { ShownLog } from "./shown.js";
import { still } from "./theme.js";

export class Stage {
  /** @param {function(Object, number)} drawn called with a frame and the time, s, at which it was drawn */
  constructor(drawn) {
    this.drawn = drawn;
    this.log = new ShownLog();
    this.canvas = el("canvas", { role: "img", "aria-label": "The environment", width: 600, height: 400 });
    this.numbers = el("dl");
    this.blank = el("div", { class: "no-picture", hidden: true }, this.numbers);
    this.light = el("div", { class: "flash", "aria-hidden": "true" });
    this.cover = el("div", { class: "veil", hidden: true });
    this.element = el("div", { class: "picture" }, this.canvas, this.blank, this.light, this.cover);
    this.busy = false;
    this.next = null;
  }

  frame(message) {
    message.arrived = performance.now();
    this.next = message;
    if (!this.busy) this.advance();
  }

  async advance() {
    const message = this.next;
    this.next = null;
    if (!message || this.stopped) return;
    this.busy = true;
    try {
      const picture = message.image ? await decode(message.image) : null;
      await new Promise((resolve) => requestAnimationFrame(() => { this.draw(message, picture); resolve(); }));
    } catch (error) {
      console.error("A frame could not be drawn:", error);
    } finally {
      this.busy = false;
    }
    if (this.next) this.advance();
  }

  draw(message, picture) {
    if (picture) {
      const { width, height } = picture;
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      this.canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close?.();
    } else {
      this.write(message.state ?? []);
    }
    this.canvas.hidden = !picture;
    this.blank.hidden = Boolean(picture);
    recordFrameAge(message.arrived);
    const t = now();
    this.log.add(message.frame_id, t);
    this.drawn(message, t);
  }

  /** Say in words what is drawn. */
  describe(message) {
    const numbers = (message.state ?? []).slice(0, 8).map((value) => show(value)).join(", ");
    this.canvas.setAttribute("aria-label", `The environment at step ${message.env_step}; state ${numbers}`);
  }

  /** An environment without a picture: its numbers, large. */
  write(state) {
    while (this.numbers.children.length < Math.min(state.length, 24)) {
      this.numbers.append(el("div", {}, el("dt", { text: `state ${this.numbers.children.length}` }), el("dd")));
    }
    state.slice(0, 24).forEach((value, index) => setText(this.numbers.children[index].lastChild, show(value)));
  }

  /** Light up the rim in the colour of a press; without motion where that is wished. */
  flash(good) {
    this.light.className = "flash";
    // Reading a layout property makes the browser notice the change, so that the animation starts again.
    void this.light.offsetWidth;
    this.light.className = `flash ${good ? "good" : "bad"}`;
    if (still()) setTimeout(() => { this.light.className = "flash"; }, 200);
  }

  /** Cover the picture with a word, and a button to go on; null uncovers it. */
  veil(text, resume = null) {
    if (this.stopped) return;
    this.cover.hidden = text === null;
    if (text === null || this.cover.dataset.text === text) return;
    this.cover.dataset.text = text;
    this.cover.replaceChildren(el("div", {}, el("p", { text }), resume ? button("Go on", resume, { class: "primary", id: "resume" }) : null));
  }

  /** The environment or the learner failed: say so over the picture, for good. */
  stop(sentence) {
    this.veil(sentence);
    this.stopped = true;
  }
}

/** A data URL as something to draw; decoded away from the main thread. */
async function decode(url) {
  const [head, body] = url.split(",", 2);
  const type = /^data:(image\/(?:jpeg|png|webp));base64$/.exec(head)?.[1];
  if (!type) throw new Error(`not a picture: ${head.slice(0, 40)}`);
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }));
}
