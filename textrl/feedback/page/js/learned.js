/** The right-hand side: curves and maps of what the learner has learnt so far. */

import { Chart } from "./charts.js";
import { el } from "./dom.js";
import { HeatMap } from "./heatmap.js";

const CURVES = {
  return: { title: "Return", x: "episode", unit: "reward per episode", tone: "--c0" },
  presses: { title: "Presses", x: "step", unit: "so far, by step", tone: "--c1" },
  beta: { title: "Beta", x: "step", unit: "weight of your advice, by step", tone: "--c2" },
  score: { title: "Expected approval", x: "text", unit: "mean H of its tokens", tone: "--c0" },
  changed: { title: "Changed by you", x: "text", unit: "share of its tokens", tone: "--c1" },
  kl: { title: "Distance from the model", x: "text", unit: "KL per token, nats", tone: "--c2" },
};

export class Learned {
  /** @param {string[]} names curves that stand there before they have points */
  constructor(names = ["return", "presses"]) {
    this.charts = new Map();
    this.actions = [];
    this.maps = new Map();
    this.curves = el("div", { class: "left" });
    this.mapBox = el("div", { class: "maps" });
    this.element = el("section", { class: "right", "aria-label": "What was learnt" }, this.mapBox, this.curves);
    for (const name of names) this.chart(name);
  }

  chart(name) {
    if (!this.charts.has(name)) {
      const chart = new Chart(CURVES[name] ?? { title: name, x: "step", tone: "--c3" });
      this.charts.set(name, chart);
      this.curves.append(chart.element);
    }
    return this.charts.get(name);
  }

  message(message) {
    if (message.type === "curve") {
      // A learner without beta says so with no points; an empty frame would only ask questions.
      if (message.points?.length) this.chart(message.name).add(message.points);
    } else if (message.type === "map") {
      this.map(message);
    }
  }

  map(message) {
    if (!this.maps.has(message.what)) {
      const map = new HeatMap(message.what, this.actions);
      this.maps.set(message.what, map);
      this.mapBox.append(map.element);
    }
    this.maps.get(message.what).set(message);
  }

  panel({ returns }) {
    const chart = this.chart("return");
    if (returns?.length && !chart.xs.length) chart.set(returns.map((value, index) => [index + 1, value]));
  }

  /** Everything anew, as after a reconnect. */
  view({ curves, maps, actions }) {
    this.actions = actions ?? this.actions;
    const list = Array.isArray(curves) ? curves : Object.entries(curves ?? {}).map(([name, points]) => ({ name, points }));
    for (const { name, points } of list) if (points?.length) this.chart(name).set(points);
    for (const map of Array.isArray(maps) ? maps : Object.values(maps ?? {})) if (map) this.map(map);
  }

  mark(state) {
    for (const map of this.maps.values()) map.mark(state);
  }

  remove() {
    for (const chart of this.charts.values()) chart.remove();
    for (const map of this.maps.values()) map.remove();
  }
}
