/** How far annotators agree, live; only the owner of a session gets these messages. */

import { count, el, setText, show } from "./dom.js";

const COLUMNS = [
  ["pairwise", "Same order of two responses", (value) => `${show(100 * value, 3)} %`],
  ["kappa", "Kappa", (value) => show(value, 2)],
  ["alpha", "Krippendorff's alpha", (value) => show(value, 2)],
];

export class Agreement {
  /** @param {Element|null} finish the owner's button that ends the session */
  constructor(finish) {
    this.values = new Map(COLUMNS.map(([name]) => [name, el("dd", { text: "–" })]));
    this.items = el("span", { class: "soft" });
    this.element = el("section", { class: "card agreement", hidden: true, "aria-label": "Agreement between annotators" },
      el("div", { class: "row" }, el("h2", { text: "Agreement between annotators" }), this.items, finish),
      this.figures = el("dl", {}, ...COLUMNS.map(([name, title]) => el("div", {}, el("dt", { text: title }), this.values.get(name)))));
  }

  show(message) {
    this.element.hidden = false;
    for (const [name, , format] of COLUMNS) {
      const value = message[name];
      const range = name === "pairwise" ? message.interval : null;
      const around = Array.isArray(range) && range.every(Number.isFinite) ? ` [${format(range[0])}, ${format(range[1])}]` : "";
      setText(this.values.get(name), Number.isFinite(value) ? format(value) + around : "–");
    }
    this.figures.hidden = !message.items;
    setText(this.items, message.items ? `${count(message.items, "item")} judged by two or more` : "No item was judged by two people yet.");
  }
}
