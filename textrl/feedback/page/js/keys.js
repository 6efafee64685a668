/**
 * Keys of a screen, and the help that lists them: one table for both, so that neither can lie.
 *
 *   const keys = new Keys([{ keys: ["/", "+"], what: "good: +1", run: (event) => ... , repeat: false }])
 */

import { button, el, kbd } from "./dom.js";

const NAMES = {
  " ": "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Backspace: "⌫",
};

/** Whether an element wants this key for itself. */
function claimed(target, key) {
  if (!(target instanceof Element)) return false;
  if (target.closest("dialog[open]")) return true;
  const tag = target.tagName;
  if (tag === "TEXTAREA" || tag === "SELECT" || target.isContentEditable) return true;
  if (tag === "INPUT") {
    const arrows = key.startsWith("Arrow");
    if (target.type === "radio") return arrows || key === " ";
    if (target.type === "range") return arrows || ["Home", "End", "PageUp", "PageDown"].includes(key);
    if (target.type === "checkbox") return key === " ";
    return true;
  }
  if (tag === "BUTTON" || tag === "SUMMARY" || tag === "A") return key === "Enter" || key === " ";
  return false;
}

export class Keys {
  constructor(bindings) {
    this.bindings = bindings;
    this.table = new Map();
    for (const binding of bindings) for (const key of binding.keys) this.table.set(key, binding);
    this.listen = (event) => this.press(event);
    addEventListener("keydown", this.listen);
  }

  remove() {
    removeEventListener("keydown", this.listen);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const shifted = event.shiftKey && /^Digit\d$/.test(event.code) ? `Shift+${event.code.at(-1)}` : null;
    const key = event.key.length === 1 && !this.table.has(event.key) ? event.key.toLowerCase() : event.key;
    const binding = (shifted && this.table.get(shifted)) || this.table.get(key);
    if (!binding || claimed(event.target, event.key)) return;
    // Space and the arrows would scroll the page under the person's hand.
    event.preventDefault();
    if (event.repeat && !binding.repeat) return;
    binding.run(event, shifted ?? key);
  }

  /** A description list of all keys. */
  list() {
    const rows = this.bindings.filter((binding) => binding.what).map((binding) => {
      const keys = (binding.shown ?? binding.keys).map((key) => kbd(NAMES[key] ?? key));
      const spoken = (binding.shown ?? binding.keys).map((key) => NAMES[key] ?? key).join(" or ");
      return el("div", { class: "key-row" },
        el("dt", {}, ...keys, el("span", { class: "hidden", text: spoken })), el("dd", { text: binding.what }));
    });
    return el("dl", { class: "keys" }, ...rows);
  }
}

/**
 * Show a dialog that takes the focus, closes with Escape and gives the focus back.
 * @param {string} title
 * @param {...Node} content
 */
export function dialog(title, ...content) {
  const back = document.activeElement;
  const id = `title-${Math.random().toString(36).slice(2)}`;
  const box = el("dialog", { "aria-labelledby": id },
    el("div", { class: "dialog-head" }, el("h2", { id, text: title }),
      button("Close", () => box.close(), { class: "quiet" })),
    ...content);
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => { box.remove(); back?.focus?.(); });
  document.body.append(box);
  box.showModal();
  return box;
}
