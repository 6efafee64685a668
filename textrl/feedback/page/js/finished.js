/** The last screen: what happened to what you gave, and how to come back. */

import { button, count, el } from "./dom.js";

/** The mark of something that is finished. */
export function tick() {
  return el("p", { class: "tick", "aria-hidden": "true", text: "✓" });
}

export function finishedScreen({ why, session, annotator, waiting, refused, again }) {
  const done = why === "finished";
  const kept = refused ? `${count(refused, "event")} came too late and ${refused === 1 ? "was" : "were"} not stored; all else is.` : "Everything you gave is stored.";
  return el("section", { class: "card narrow finished" },
    tick(),
    el("h1", { tabindex: "-1", text: done ? "All done. Thank you!" : "You have left the session" }),
    el("p", { id: "stored", text: waiting
      ? `${count(waiting, "event")} still on the way to the store. Leave this page open for a moment.`
      : kept }),
    el("p", { class: "soft", text: done
      ? "There is nothing more to do here. You may close this page."
      : `Come back under the name ${annotator} to go on where you stopped.` }),
    el("details", {}, el("summary", { text: "For whoever runs the study" }),
      el("p", { text: "Repeat the session from its log, check the log, or take out the judgements:" }),
      el("pre", { tabindex: "0" }, el("code", { text: `textrl feedback replay ${session}\ntextrl feedback verify ${session}\ntextrl feedback export ${session}` }))),
    button(done ? "Other sessions" : "Back to the sessions", again, { class: "primary", id: "again" }));
}
