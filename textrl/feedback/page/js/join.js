/** The first screen: who you are, and which session. */

import { el } from "./dom.js";
import { recall, remember } from "./memory.js";

export const MODES = {
  control: { title: "Teach by pressing keys", text: "Watch a learner act and say what is good and what is bad." },
  text: { title: "Rate text while it appears", text: "Read along; press + and −, or mark passages." },
  rank: { title: "Compare responses", text: "Put several answers to one prompt into order, best first." },
};

/** What the server lists, whatever extra it says about each. */
export async function listSessions() {
  const answer = await fetch("api/sessions", { cache: "no-store", credentials: "same-origin" });
  if (answer.status === 401 || answer.status === 403) return { refused: true, sessions: [] };
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  const data = await answer.json();
  return { refused: false, sessions: Array.isArray(data) ? data : data.sessions ?? [] };
}

/** The screen for somebody who came without the link's token. */
export function refusedScreen(reason) {
  return el("section", { class: "card narrow" },
    el("h1", { text: "This link has no valid token" }),
    el("p", { text: "Open the whole address that the server printed when it started, with ?token= in it." }),
    reason ? el("p", { class: "soft", text: reason }) : null);
}

/**
 * @param {Array} sessions
 * @param {function({session: string, created: number, annotator: string})} enter
 */
export function joinScreen(sessions, enter) {
  const wanted = new URLSearchParams(location.search).get("session");
  const chosen = sessions.find((one) => one.session === wanted) ?? sessions[0];
  const error = el("p", { class: "field-error", id: "name-error", role: "alert" });
  const name = el("input", {
    id: "name", name: "name", type: "text", maxlength: 64, autocomplete: "nickname", required: true,
    spellcheck: "false", autocapitalize: "none", "aria-describedby": "name-help name-error",
  });
  name.value = recall("name") ?? "";
  const form = el("form", { novalidate: true, on: { submit: (event) => { event.preventDefault(); submit(); } } },
    el("label", { for: "name", text: "Your name or id" }), name,
    el("p", { class: "soft", id: "name-help", text: "It stands beside everything you give. Come back under the same name to go on." }),
    error, choices(sessions, chosen),
    el("button", { type: "submit", class: "primary wide-button", id: "start", disabled: sessions.length === 0, text: "Start" }));

  function submit() {
    const annotator = name.value.trim();
    if (!annotator) {
      error.textContent = "Write a name first: 1 to 64 characters.";
      name.setAttribute("aria-invalid", "true");
      name.focus();
      return;
    }
    const session = form.querySelector("input[name=session]:checked")?.value ?? chosen?.session;
    const { created } = sessions.find((one) => one.session === session);
    remember("name", annotator);
    enter({ session, created, annotator });
  }
  return el("section", { class: "card narrow join" },
    el("h1", { text: "Give feedback" }),
    el("p", { class: "soft", text: sessions.length ? "Your judgements are what the model learns from." : "This server has no session yet. Start one with: textrl feedback control, text or rank." }),
    form);
}

/** Whether there is anything left to do in a session, where the server says so. */
function state({ finished, failed }) {
  if (failed) return el("span", { class: "pill off", text: "stopped" });
  return finished ? el("span", { class: "pill", text: "finished" }) : null;
}

function choices(sessions, chosen) {
  if (sessions.length === 0) return null;
  return el("fieldset", { class: "sessions" }, el("legend", { text: sessions.length === 1 ? "Session" : "Which session" }),
    ...sessions.map((one, index) => {
      const mode = MODES[one.mode] ?? { title: one.mode, text: "" };
      return el("label", { class: "session", for: `session-${index}` },
        el("input", { type: "radio", name: "session", id: `session-${index}`, value: one.session, checked: one === chosen }),
        el("span", {}, el("b", {}, one.session, state(one)), el("span", { class: "session-mode", text: mode.title }),
          el("span", { class: "soft", text: mode.text })));
    }));
}
