/** Live curves, drawn by uPlot (vendored), with a sentence beside each for those who cannot see it. */

import { el, setText, show } from "./dom.js";
import { color } from "./theme.js";

const HEIGHT = 132;
const REDRAW_MS = 200;
const FEW = 40; // more points than this are a line
// Episodes, steps and texts are counted: no tick at one and a half.
const WHOLE = Array.from({ length: 9 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

export class Chart {
  /**
   * @param {{title: string, x: string, unit?: string, tone: string}} about x names the horizontal axis;
   *   tone is a custom property with the line's colour.
   */
  constructor(about) {
    this.about = about;
    this.xs = [];
    this.ys = [];
    this.now = el("span", { class: "now", text: "–" });
    this.waiting = el("p", { class: "waiting", text: "Nothing yet" });
    this.plot = el("div", { class: "plot", role: "img", "aria-label": `${about.title}: nothing yet` }, this.waiting);
    this.element = el("figure", { class: "card chart" },
      el("figcaption", {},
        el("span", {}, about.title, el("span", { class: "unit", text: about.unit ?? "" })), this.now), this.plot);
    this.retheme = () => this.chart?.redraw(false);
    addEventListener("themechange", this.retheme);
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.plot);
  }

  remove() {
    removeEventListener("themechange", this.retheme);
    this.resizing.disconnect();
    clearTimeout(this.timer);
    this.chart?.destroy();
  }

  /** Replace all points. */
  set(points) {
    this.xs = [];
    this.ys = [];
    this.add(points);
  }

  /** Add points [x, y]; an x that was there already gets the new y. */
  add(points) {
    for (const [x, y] of points ?? []) {
      if (this.xs.length && x <= this.xs.at(-1)) {
        const at = this.xs.indexOf(x);
        if (at >= 0) this.ys[at] = y;
        continue;
      }
      this.xs.push(x);
      this.ys.push(y);
    }
    this.timer ??= setTimeout(() => { this.timer = null; this.draw(); }, this.chart ? REDRAW_MS : 0);
  }

  draw() {
    if (!this.xs.length) return;
    if (!this.chart) this.build();
    else this.chart.setData([this.xs, this.ys]);
    const finite = this.ys.filter(Number.isFinite);
    const last = finite.at(-1);
    setText(this.now, show(last));
    this.plot.setAttribute("aria-label", `${this.about.title}, ${this.xs.length} points by ${this.about.x}: last `
      + `${show(last)}, lowest ${show(Math.min(...finite))}, highest ${show(Math.max(...finite))}.`);
  }

  build() {
    if (typeof uPlot === "undefined") { setText(this.waiting, "The plotting library did not load."); return; }
    this.waiting.remove();
    const line = { stroke: () => color("--soft"), grid: { stroke: () => color("--grid"), width: 1 }, ticks: { show: false },
      font: "11px system-ui, sans-serif", size: 24, gap: 3 };
    const options = {
      width: Math.max(80, this.plot.clientWidth), height: HEIGHT, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { y: false, points: { size: 7 } }, scales: { x: { time: false, range: padded }, y: { range: padded } },
      axes: [{ ...line, incrs: WHOLE, values: (_, ticks) => ticks.map((tick) => show(tick, 6)) },
        { ...line, size: 44, values: (_, ticks) => ticks.map((tick) => show(tick, 4)) }],
      series: [{}, { stroke: () => color(this.about.tone), width: 2, spanGaps: true,
        points: { show: () => this.xs.length < FEW, size: 5 } }],
      hooks: { setCursor: [(chart) => this.point(chart)] },
    };
    this.chart = new uPlot(options, [this.xs, this.ys], this.plot);
    this.chart.root.setAttribute("aria-hidden", "true");
  }

  /** Under the pointer: the value there instead of the last one. */
  point(chart) {
    const at = chart.cursor.idx;
    setText(this.now, at === null || at === undefined ? show(this.ys.at(-1)) : `${this.about.x} ${show(this.xs[at], 6)}: ${show(this.ys[at], 4)}`);
  }

  fit() {
    const width = this.plot.clientWidth;
    if (this.chart && width > 0 && Math.abs(width - this.chart.width) > 1) this.chart.setSize({ width, height: HEIGHT });
  }
}

/** A range that a single point and a constant do not collapse. */
function padded(_, low, high) {
  if (low === null || low === undefined) return [0, 1];
  if (low === high) return [low - 0.5, high + 0.5];
  const room = (high - low) * 0.04;
  return [low - room, high + room];
}
