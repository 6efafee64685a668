/**
 * Events that the server has not acknowledged yet.
 *
 * Each is kept in memory and in the browser's storage until its acknowledgement comes, so that a lost
 * network, a restarted server or a closed tab costs nothing: whoever opens the session again under the
 * same name sends them again, under the same uuid, and the store keeps one.
 */

import { recall, recallAll, remember } from "./memory.js";

export class Outbox {
  /** @param {string} memory the session and the person */
  constructor(memory) {
    this.prefix = `outbox:${memory}:`;
    this.waiting = new Map();
    this.order = 0;
    const found = [];
    for (const key of recallAll(this.prefix)) {
      try {
        const entry = JSON.parse(recall(key));
        found.push([entry.order, entry.message]);
      } catch {
        remember(key, null); // not ours, or cut short by a full disk
      }
    }
    found.sort((a, b) => a[0] - b[0] || a[1].t - b[1].t);
    for (const [order, message] of found) {
      this.waiting.set(message.uuid, message);
      this.order = Math.max(this.order, order + 1);
    }
  }

  /** How many things that a person did wait; display stamps, which come all the time, do not count. */
  get size() {
    let size = 0;
    for (const message of this.waiting.values()) size += message.kind !== "shown";
    return size;
  }

  add(message) {
    this.waiting.set(message.uuid, message);
    remember(this.prefix + message.uuid, JSON.stringify({ order: this.order, message }));
    this.order += 1;
  }

  /** Take out what was stored, or refused for good. */
  remove(uuid) {
    const message = this.waiting.get(uuid);
    this.waiting.delete(uuid);
    remember(this.prefix + uuid, null);
    return message;
  }

  /** All that wait, oldest first. */
  all() {
    return [...this.waiting.values()];
  }
}
