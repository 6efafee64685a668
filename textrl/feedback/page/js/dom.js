/**
 * Elements, without a framework.
 *
 * Text enters the page only through textContent and setAttribute, so nothing that a model or another
 * person wrote can become markup.
 */

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} [props] class, text, on ({event: function}), data ({name: value}), and attributes;
 *   true sets an attribute without a value, false and null leave it out.
 * @param {...(Node|string|null)} children strings become text nodes.
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "on") for (const [type, run] of Object.entries(value)) node.addEventListener(type, run);
    else if (name === "data") Object.assign(node.dataset, value);
    else attribute(node, name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set, or take away, an attribute. */
export function attribute(node, name, value) {
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Set a text only when it changed: a live region speaks at every set. */
export function setText(node, text) {
  const next = String(text);
  if (node.textContent !== next) node.textContent = next;
}

/**
 * A button of type button, since forms here have none that submit by accident.
 *
 * After a click with the mouse or a finger it lets go of the focus: the next press of the space bar is
 * meant for the session. Reached and pressed by keyboard it keeps the focus, as buttons do.
 */
export function button(text, run, props = {}) {
  const node = el("button", { type: "button", ...props, text });
  node.addEventListener("click", (event) => {
    if (event.detail > 0 && !node.closest("dialog, form")) node.blur();
    run(event);
  });
  return node;
}

/** A key as it is drawn in help and on buttons; screen readers get the button's own label. */
export function kbd(text) {
  return el("kbd", { text, "aria-hidden": "true" });
}

let lastSpoken = "";
/** Tell screen readers something, politely. The same sentence twice in a row is made speakable again. */
export function announce(text) {
  const live = document.getElementById("live");
  const next = text === lastSpoken ? `${text}\u00a0` : text;
  lastSpoken = next;
  live.textContent = next;
}

/** A number for people: at most `digits` significant digits, and a true minus sign. */
export function show(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const rounded = Number(value.toPrecision(digits));
  const text = Math.abs(rounded) >= 1e6 || (rounded && Math.abs(rounded) < 1e-4)
    ? rounded.toExponential(1) : String(rounded);
  return text.replace("-", "−");
}

/** A signed number, as on a reward key. */
export function signed(value) {
  return value > 0 ? `+${show(value)}` : show(value);
}

/** A word with its count: 1 press, 2 presses. */
export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
