/**
 * What the page measures of itself, for `textrl bench sessions` and the curious.
 *
 * window.textrlLatency   ms from the person's hand to the page that shows the event as stored
 * window.textrlPainted   the same to the next animation frame, which the screen's own rate bounds
 * window.textrlFrameAge  ms from a frame's arrival at the page to its drawing
 */

import { now } from "./clock.js";

const KEEP = 20000;
window.textrlLatency = [];
window.textrlPainted = [];
window.textrlFrameAge = [];

function push(list, value) {
  list.push(value);
  if (list.length > KEEP) list.splice(0, list.length - KEEP);
}

/** Called when listeners have changed the page; `start` is the event's own time, s. */
export function recordLatency(kind, start) {
  push(window.textrlLatency, (now() - start) * 1000);
  performance.mark("textrl-stored", { detail: { kind } });
  if (window.textrlLatency.length % 500 === 0) performance.clearMarks("textrl-stored");
  requestAnimationFrame(() => push(window.textrlPainted, (now() - start) * 1000));
}

/** @param {number} arrived performance.now() at the message */
export function recordFrameAge(arrived) {
  push(window.textrlFrameAge, performance.now() - arrived);
}
