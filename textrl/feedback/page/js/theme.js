/** Light, dark, or as the system has it. Charts and maps redraw on the event "themechange". */

import { attribute, button, setText } from "./dom.js";
import { recall, remember } from "./memory.js";

const ORDER = ["auto", "light", "dark"];

/** The button that goes through the three. */
export function themeButton() {
  let chosen = recall("theme") ?? "auto";
  const node = button("", () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    remember("theme", chosen === "auto" ? null : chosen);
    apply();
  }, { class: "quiet", id: "theme" });
  function apply() {
    attribute(document.documentElement, "data-theme", chosen === "auto" ? null : chosen);
    setText(node, { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[chosen]);
    node.setAttribute("aria-label", `Colour theme: ${chosen}. Change it.`);
    dispatchEvent(new Event("themechange"));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
  apply();
  return node;
}

/** The value of a custom property now, for canvases. */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Whether the person asked for less motion. */
export function still() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
