/**
 * The ranking as a list that can be dragged: rows of one or more responses, best on top.
 *
 * Dropping between two rows gives a place of its own, dropping onto a row ties. The same with the mouse, a
 * finger or a pen; the keyboard has its own ways (rank.js).
 */

import { el, setText } from "./dom.js";
import { insert, join, placed } from "./order.js";

const SNIPPET = 64;
const FAR_PX = 6; // less is a click, or an unsteady finger

export class Board {
  /** @param {{picked: function(number), reordered: function(number[][])}} calls */
  constructor(calls) {
    this.calls = calls;
    this.list = el("ol", { class: "board-list", "aria-label": "Your ranking, best first" });
    this.rest = el("div", { class: "board-rest" });
    this.hint = el("p", { class: "soft board-hint" });
    this.element = el("div", { class: "board" }, this.list, this.rest, this.hint);
    this.element.addEventListener("pointerdown", (event) => this.down(event));
    this.element.addEventListener("pointermove", (event) => this.drag(event));
    this.element.addEventListener("pointerup", (event) => this.drop(event));
    this.element.addEventListener("pointercancel", () => this.stop());
  }

  /**
   * @param {string[]} texts
   * @param {number[][]} order
   * @param {number|null} chosen
   */
  show(texts, order, chosen) {
    this.texts = texts;
    this.order = order;
    this.list.replaceChildren(...order.map((group, at) => el("li", { class: `row-group${group.length > 1 ? " tie" : ""}`, data: { at } },
      el("span", { class: "rank", text: at + 1 }),
      el("div", { class: "chips" }, ...group.map((one) => this.chip(one, chosen))))));
    const rest = texts.map((_, index) => index).filter((index) => !placed(order, index));
    this.rest.replaceChildren(...rest.map((one) => this.chip(one, chosen)));
    setText(this.hint, hint(rest.length, order.length));
  }

  chip(index, chosen) {
    const text = this.texts[index].replace(/\s+/g, " ").trim();
    return el("button", {
      type: "button", class: `drag-chip${index === chosen ? " chosen" : ""}`, data: { index }, tabindex: "-1",
      "aria-label": `Response ${index + 1}`, on: { click: () => { if (!this.dragged) this.calls.picked(index); } },
    }, el("span", { class: "badge", text: index + 1 }), el("span", { class: "snippet", text: text.slice(0, SNIPPET) }));
  }

  down(event) {
    const chip = event.target.closest(".drag-chip");
    if (!chip || event.button !== 0) return;
    this.dragged = false;
    this.held = { index: Number(chip.dataset.index), chip, x: event.clientX, y: event.clientY, id: event.pointerId };
  }

  drag(event) {
    const { held } = this;
    if (!held || held.id !== event.pointerId) return;
    const dx = event.clientX - held.x, dy = event.clientY - held.y;
    if (!this.dragged && Math.hypot(dx, dy) < FAR_PX) return;
    if (!this.dragged) {
      this.dragged = true;
      this.element.setPointerCapture(event.pointerId);
      held.chip.classList.add("dragging");
    }
    event.preventDefault();
    held.chip.style.transform = `translate(${dx}px, ${dy}px)`;
    this.mark(this.goal(event));
  }

  /** Where a drop at the pointer would go: onto a group, or before one. */
  goal(event) {
    const rows = [...this.list.children];
    for (const [at, row] of rows.entries()) {
      const box = row.getBoundingClientRect();
      if (event.clientY < box.top + box.height * 0.28) return { before: at, row };
      if (event.clientY < box.bottom - box.height * 0.28) return { onto: at, row };
    }
    return { before: rows.length, row: rows.at(-1), last: true };
  }

  mark(goal) {
    for (const row of this.list.children) row.classList.remove("goal-onto", "goal-before", "goal-after");
    goal?.row?.classList.add(goal.onto !== undefined ? "goal-onto" : goal.last ? "goal-after" : "goal-before");
  }

  drop(event) {
    const { held } = this;
    if (!held) return;
    if (this.dragged) {
      const goal = this.goal(event);
      const { index } = held;
      if (goal.onto !== undefined) {
        const other = this.order[goal.onto].find((one) => one !== index);
        if (other !== undefined) this.calls.reordered(join(this.order, index, other), index);
      } else {
        // Counted without the dragged response: its own row disappears if it stood there alone.
        const gone = this.order.slice(0, goal.before).filter((group) => group.length === 1 && group[0] === index).length;
        this.calls.reordered(insert(this.order, index, goal.before - gone), index);
      }
    }
    this.stop();
  }

  stop() {
    this.held?.chip.classList.remove("dragging");
    if (this.held) this.held.chip.style.transform = "";
    this.mark(null);
    this.held = null;
    setTimeout(() => { this.dragged = false; }); // after the click that follows pointerup
  }
}

function hint(left, ranked) {
  if (left && !ranked) return "Press the numbers, best first, or drag.";
  if (left) return `${left} still without a place.`;
  return "Drag one onto another, or press =, for a tie.";
}
