/**
 * What the learner has learnt over a two-dimensional state: H, or the action it would take.
 *
 * A message {what, shape: [rows, columns], values (row after row), axes: [{name, low, high}, ...]}: a row is
 * one value of the second dimension, from its lower bound up; along a row the first dimension grows. Drawn
 * as a plot of the second over the first. Policies count actions from 0; -1 is a state without a favourite.
 */

import { el, setText, show } from "./dom.js";
import { color } from "./theme.js";

const TITLES = { h: "Your approval (H)", policy: "What it would do" };
const UNDECIDED = -1;
const ACTIONS = ["--c0", "--c4", "--c1", "--c2", "--c3"];
// Orange to blue through near-white: told apart by every common kind of colour vision.
const COLD = [178, 76, 18], MIDDLE = [247, 247, 245], WARM = [29, 95, 196];

export class HeatMap {
  /** @param {string} what @param {string[]} names of the actions, as far as known */
  constructor(what, names = []) {
    this.what = what;
    this.names = names;
    this.canvas = el("canvas", { role: "img", "aria-label": "Nothing yet", width: 1, height: 1 });
    this.dot = el("span", { class: "here", hidden: true, "aria-hidden": "true" });
    this.yAxis = el("div", { class: "y-axis" });
    this.xAxis = el("div", { class: "x-axis" });
    this.key = el("div");
    this.element = el("figure", { class: "card map", data: { what } },
      el("figcaption", { text: TITLES[what] ?? what }),
      el("div", { class: "map-grid" }, this.yAxis,
        el("div", { class: "field" }, this.canvas, this.dot), this.xAxis), this.key);
    this.redraw = () => this.message && this.set(this.message);
    addEventListener("themechange", this.redraw);
  }

  remove() {
    removeEventListener("themechange", this.redraw);
  }

  set(message) {
    this.message = message;
    const [rows, columns] = message.shape;
    const values = message.values.flat();
    const image = new ImageData(columns, rows);
    const paint = this.what === "policy" ? this.actions(values) : this.heat(values);
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) {
        image.data.set([...paint(values[i * columns + j]), 255], 4 * ((rows - 1 - i) * columns + j));
      }
    }
    this.image = image;
    this.label(message, values);
    this.draw();
  }

  heat(values) {
    const finite = values.filter(Number.isFinite);
    const most = Math.max(1e-9, ...finite.map(Math.abs));
    const ramp = el("canvas", { class: "ramp", width: 64, height: 1, "aria-hidden": "true" });
    const pixels = new ImageData(64, 1);
    for (let i = 0; i < 64; i += 1) pixels.data.set([...blend(i / 31.5 - 1), 255], 4 * i);
    ramp.getContext("2d").putImageData(pixels, 0, 0);
    this.key.replaceChildren(ramp, el("div", { class: "ramp-ends" },
      el("span", { text: show(-most, 2) }), el("span", { text: "0" }), el("span", { text: `+${show(most, 2)}` })));
    return (value) => blend(Number.isFinite(value) ? value / most : 0);
  }

  name(action) {
    return action === UNDECIDED ? "no favourite yet" : this.names[action] ?? `action ${action}`;
  }

  actions(values) {
    const used = [...new Set(values)].filter(Number.isFinite).sort((a, b) => a - b);
    const shades = used.map((action) => hex(color(action === UNDECIDED ? "--rule" : ACTIONS[action % ACTIONS.length])));
    const items = used.map((action, index) => {
      const swatch = el("canvas", { class: "swatch", width: 1, height: 1, "aria-hidden": "true" });
      const pixel = new ImageData(1, 1);
      pixel.data.set([...shades[index], 255]);
      swatch.getContext("2d").putImageData(pixel, 0, 0);
      return el("li", {}, swatch, this.name(action));
    });
    this.key.replaceChildren(el("ul", { class: "legend" }, ...items));
    return (value) => shades[used.indexOf(value)] ?? [128, 128, 128];
  }

  label(message, values) {
    const [x, y] = message.axes ?? [];
    this.xAxis.replaceChildren(...ends(x));
    this.yAxis.replaceChildren(...ends(y));
    this.canvas.setAttribute("aria-label", this.describe(message, values));
  }

  describe({ shape: [rows, columns], axes }, values) {
    const title = TITLES[this.what] ?? this.what;
    const over = `over ${axes?.[0]?.name ?? "the first"} and ${axes?.[1]?.name ?? "the second"} part of the state`;
    if (this.what === "policy") {
      const counts = new Map();
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
      const shares = [...counts].sort((a, b) => b[1] - a[1])
        .map(([action, n]) => `${this.name(action)} in ${Math.round((100 * n) / values.length)} %`);
      return `${title} ${over}: ${shares.join(", ")} of the states.`;
    }
    const best = values.reduce((at, value, index) => (value > values[at] ? index : at), 0);
    const spot = [along(axes?.[0], best % columns, columns), along(axes?.[1], Math.floor(best / columns), rows)];
    const place = axes ? ` near ${axes.map((axis, k) => `${axis.name} ${show(spot[k], 2)}`).join(" and ")}` : "";
    return `${title} ${over}: from ${show(Math.min(...values), 2)} to ${show(Math.max(...values), 2)}, highest${place}.`;
  }

  /** Show where the learner is now: a mark that moves over the map, which is not drawn again for it. */
  mark(state) {
    const axes = this.message?.axes;
    if (!axes || !state || state.length < 2) return;
    const [u, v] = axes.map((axis, k) => (state[k] - axis.low) / (axis.high - axis.low));
    this.dot.style.left = `${100 * u}%`;
    this.dot.style.bottom = `${100 * v}%`;
    this.dot.hidden = false;
  }

  draw() {
    if (!this.image) return;
    const { width, height } = this.image;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.canvas.getContext("2d").putImageData(this.image, 0, 0);
  }
}

function along(axis, index, size) {
  return axis ? axis.low + (index / Math.max(1, size - 1)) * (axis.high - axis.low) : null;
}

function ends(axis) {
  if (!axis) return [];
  return [el("span", { text: show(axis.low, 2) }), el("span", { text: axis.name }), el("span", { text: show(axis.high, 2) })];
}

function blend(share) {
  const end = share < 0 ? COLD : WARM;
  const weight = Math.min(1, Math.abs(share)) ** 0.8;
  return MIDDLE.map((value, k) => Math.round(value + (end[k] - value) * weight));
}

function hex(text) {
  const value = Number.parseInt(text.replace("#", ""), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
