/** Lines at the top that must not be missed: nothing is being stored, the connection is lost, an error. */

import { button, el } from "./dom.js";

const shown = new Map();

/**
 * Show a line, or change it, or take it away.
 * @param {string} id one line for each
 * @param {string|null} text null takes it away
 * @param {{kind?: "bad"|"warn"|"info", closes?: boolean, action?: {text: string, run: function}}} [options]
 */
export function banner(id, text, { kind = "bad", closes = false, action = null } = {}) {
  const old = shown.get(id);
  if (text === null) {
    old?.remove();
    shown.delete(id);
    return;
  }
  if (old?.dataset.text === text) return;
  const node = el("div", { class: `banner ${kind}`, data: { text, id } }, el("p", { text }));
  if (action) node.append(button(action.text, action.run));
  if (closes) node.append(button("Dismiss", () => banner(id, null), { class: "quiet" }));
  if (old) old.replaceWith(node);
  else document.getElementById("banners").append(node);
  shown.set(id, node);
}
