/** One response on the screen: its text, its place, its quality from 1 to 7 and its flags. */

import { el, setText } from "./dom.js";

/** Words for the flags; a name that is not here is shown as it is. */
const FLAGS = {
  fails_instruction: "Fails to follow the instruction", inappropriate_for_assistant: "Inappropriate for a customer assistant",
  hallucination: "Makes things up", satisfies_constraint: "Satisfies the constraint that was stated",
  sexual_content: "Sexual content", violent_content: "Violent content", encourages_harm: "Encourages violence or self-harm",
  denigrates_protected_class: "Denigrates a protected class", harmful_advice: "Gives harmful advice",
  expresses_opinion: "Expresses an opinion", moral_judgment: "Expresses a moral judgment",
};
const PLACES = ["1st", "2nd", "3rd"];

export class Response {
  /**
   * @param {number} index from 0, as on the screen
   * @param {string} text
   * @param {string[]} flags
   * @param {{picked: function(number), changed: function()}} calls
   */
  constructor(index, text, flags, calls) {
    this.index = index;
    const name = `Response ${index + 1}`;
    this.place = el("span", { class: "place", text: "not ranked" });
    this.pick = el("button", { type: "button", class: "pick", id: `response-${index + 1}`, "aria-pressed": "false", on: { click: () => calls.picked(index) } },
      el("span", { class: "badge", "aria-hidden": "true", text: index + 1 }), el("span", { text: name }), this.place);
    this.radios = Array.from({ length: 7 }, (_, step) => el("input", {
      type: "radio", name: `likert-${index}`, id: `likert-${index}-${step + 1}`, value: step + 1,
      on: { change: () => calls.changed() },
    }));
    this.boxes = new Map(flags.map((flag) => [flag, el("input", {
      type: "checkbox", id: `flag-${index}-${flag}`, on: { change: () => { this.count(); calls.changed(); } },
    })]));
    this.flagWords = el("span", { text: "Flags" });
    this.details = el("details", { class: "flags" }, el("summary", {}, this.flagWords),
      el("div", { class: "flag-list" }, ...flags.map((flag) => el("label", { class: "check", for: `flag-${index}-${flag}` },
        this.boxes.get(flag), FLAGS[flag] ?? flag.replaceAll("_", " ")))));
    this.element = el("article", { class: "card response", "aria-label": name, data: { index } }, this.pick,
      el("p", { class: "response-text", text: text || "(no text)" }),
      el("fieldset", { class: "likert" }, el("legend", {}, "Overall quality", el("span", { class: "soft", text: " 1 poor – 7 excellent" })),
        el("div", { class: "likert-row" }, ...this.radios.map((radio, step) => el("label", { for: radio.id }, radio, el("span", { text: step + 1 }))))),
      flags.length ? this.details : null);
  }

  /** The score, 1 to 7, or null. */
  get likert() {
    const chosen = this.radios.find((radio) => radio.checked);
    return chosen ? Number(chosen.value) : null;
  }

  set likert(value) {
    for (const radio of this.radios) radio.checked = Number(radio.value) === value;
  }

  /** {name: true or false} of every flag. */
  get flags() {
    return Object.fromEntries([...this.boxes].map(([flag, box]) => [flag, box.checked]));
  }

  set flags(values) {
    for (const [flag, box] of this.boxes) box.checked = Boolean(values?.[flag]);
    this.count();
  }

  count() {
    const ticked = [...this.boxes.values()].filter((box) => box.checked).length;
    setText(this.flagWords, ticked ? `Flags (${ticked})` : "Flags");
  }

  /** Show its rank and whether it is the one the keys act on. */
  show(rank, tied, chosen) {
    setText(this.place, rank === null ? "not ranked" : `${PLACES[rank - 1] ?? `${rank}th`}${tied ? ", tied" : ""}`);
    this.place.classList.toggle("has", rank !== null);
    this.pick.setAttribute("aria-pressed", String(chosen));
    this.element.classList.toggle("chosen", chosen);
  }
}
