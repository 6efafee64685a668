/** What was on the screen, and since when: a press names what was there when the hand moved. */

const KEPT = 64;

export class ShownLog {
  constructor() {
    this.stamps = []; // [id, t], oldest first
  }

  add(id, t) {
    this.stamps.push([id, t]);
    if (this.stamps.length > KEPT) this.stamps.shift();
  }

  /**
   * The newest that was on the screen at a time; null where nothing was yet.
   *
   * A handler runs milliseconds after the key went down, and a frame may have been drawn in between: the
   * person did not press because of that one.
   */
  at(t) {
    for (let index = this.stamps.length - 1; index >= 0; index -= 1) {
      if (this.stamps[index][1] <= t) return this.stamps[index][0];
    }
    return null;
  }
}
