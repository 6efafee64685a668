/** The last screen: what happened to what you gave, and how to come back. */

import { button, count, el, setText } from "./dom.js";
import { dialog } from "./keys.js";

/** The mark of something that is finished. */
export function tick() {
  return el("p", { class: "tick", "aria-hidden": "true", text: "✓" });
}

/** Ask whether to end the session for everybody, and do it. */
export function askToFinish(link, leave) {
  const said = el("p", { role: "alert" });
  const end = () => {
    if (link.finish()) box.close();
    else setText(said, "There is no connection, so the session goes on. Finish it when the connection is back.");
  };
  const box = dialog("Finish the session?", el("p", { text: "It ends for everybody, and a last check sum of what was learnt is written. To come back later, leave instead." }),
    said, el("div", { class: "transport" },
      button("Finish for good", end, { class: "primary", id: "finish-yes" }),
      button("Leave and come back later", () => { box.close(); leave(); })));
}

/** What became of what a person gave. */
export function storedText({ waiting, refused }) {
  if (waiting) return `${count(waiting, "event")} still on the way to the store. Leave this page open for a moment.`;
  return refused ? `${count(refused, "event")} came too late and ${refused === 1 ? "was" : "were"} not stored; all else is.` : "Everything you gave is stored.";
}

export function finishedScreen({ why, session, annotator, given, again }) {
  const done = why === "finished";
  return el("section", { class: "card narrow finished" },
    tick(),
    el("h1", { tabindex: "-1", text: done ? "All done. Thank you!" : "You have left the session" }),
    el("p", { id: "stored", role: "status", text: storedText(given) }),
    el("p", { class: "soft", text: done
      ? "There is nothing more to do here. You may close this page."
      : `Come back under the name ${annotator} to go on where you stopped.` }),
    el("details", {}, el("summary", { text: "For whoever runs the study" }),
      el("p", { text: "Repeat the session from its log, check the log, or take out the judgements:" }),
      el("pre", { tabindex: "0" }, el("code", { text: `textrl feedback replay ${session}\ntextrl feedback verify ${session}\ntextrl feedback export ${session}` }))),
    button(done ? "Other sessions" : "Back to the sessions", again, { class: "primary", id: "again" }));
}
