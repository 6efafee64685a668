/** Starts the page: choose a session, connect, show its screen, and keep the header honest. */

import { banner } from "./banners.js";
import { ControlScreen } from "./control.js";
import { announce, button, count, el, setText } from "./dom.js";
import { finishedScreen, storedText } from "./finished.js";
import { joinScreen, listSessions, refusedScreen } from "./join.js";
import { dialog } from "./keys.js";
import { Link } from "./link.js";
import { RankScreen } from "./rank.js";
import { TextScreen } from "./text.js";
import { themeButton } from "./theme.js";

const SCREENS = { control: ControlScreen, text: TextScreen, rank: RankScreen };
const LOST_AFTER_MS = 1200; // a blink of the network is no news

const main = document.getElementById("screen");
const where = document.getElementById("where");
const tools = document.getElementById("tools");
let current = null; // {link, screen, session, annotator, leave}

function show(...nodes) {
  main.replaceChildren(...nodes);
  main.querySelector("h1")?.setAttribute("tabindex", "-1");
}

async function join() {
  current = null;
  setText(where, "");
  linkState("idle", "");
  document.title = "textrl feedback";
  let found;
  try {
    found = await listSessions();
  } catch (error) {
    show(el("section", { class: "card narrow" }, el("h1", { text: "The server does not answer" }),
      el("p", { text: "It may be starting, or it was stopped. This page tries again by itself." })));
    setTimeout(join, 2000);
    return;
  }
  if (found.refused) show(refusedScreen(""));
  else show(joinScreen(found.sessions, enter));
}

function enter({ session, created, annotator }) {
  history.replaceState(null, "", `?${new URLSearchParams({ session })}`);
  // Another session may once have had this name here; what waits for that one must not reach this one.
  const memory = [session, created, annotator].map(encodeURIComponent).join(":");
  const link = new Link(session, annotator, memory);
  current = { link, session, annotator, memory, screen: null };
  setText(where, `${session} · ${annotator}`);
  show(el("p", { class: "soft centre", text: "Connecting…" }));
  link.on("welcome", (message) => welcome(message))
    .on("state", (message) => connection(message))
    .on("pending", pending)
    .on("storage", storage)
    .on("error", trouble)
    .on("finished", () => { if (!(current?.screen instanceof RankScreen)) finish("finished"); })
    .on("*", (message) => current?.screen?.message?.(message));
  link.start();
}

function trouble({ code, message }) {
  if (code === "too_fast") return;
  banner("error", message, { kind: code === "machine_failed" ? "bad" : "warn", closes: true });
  // Refused at the door: another name, another session or a little later may do.
  if (!current?.link.greeted) { current?.link.close(); join(); }
}

function welcome(message) {
  banner("error", null);
  const Screen = SCREENS[message.mode];
  if (!Screen) {
    show(el("section", { class: "card narrow" }, el("h1", { text: "This page does not know this kind of session" }),
      el("p", { text: `The server calls it ${message.mode}. Reload the page: it may be an old copy.` })));
    return;
  }
  if (message.finished && message.mode !== "rank") { finish("finished"); return; }
  if (!current.screen) {
    const { link, session, annotator, memory } = current;
    const context = { link, session, annotator, memory, role: message.role, owner: message.owner, leave };
    current.screen = new Screen(context);
    show(current.screen.element);
    toolbar();
    document.title = `${current.session} · textrl feedback`;
    announce(`Joined ${current.session} as ${message.role}.`);
    main.focus({ preventScroll: true });
  } else {
    announce("Connected again. Nothing was lost.");
  }
  current.screen.welcome(message);
}

function toolbar() {
  const screen = current.screen;
  tools.replaceChildren(
    button("Help", () => screen.help(), { class: "quiet", id: "help" }),
    button("Leave", leave, { class: "quiet", id: "leave" }), theme);
}

function leave() {
  current?.screen?.leave?.();
  finish("left");
}

function finish(why) {
  const { link, screen, session, annotator } = current ?? {};
  screen?.remove?.();
  tools.replaceChildren(theme);
  const given = () => ({ waiting: link?.outbox.size ?? 0, refused: link?.refusals.size ?? 0 });
  const last = finishedScreen({ why, session, annotator, given: given(), again: () => { link?.close(); join(); } });
  show(last);
  main.querySelector("h1").focus();
  // What is not stored yet is still being sent: the link lives on until all is acknowledged.
  link?.on("pending", () => setText(last.querySelector("#stored"), storedText(given())));
  if (current) current.screen = { message() {}, welcome() {}, help() {}, remove() {} };
}

function linkState(state, text) {
  const node = document.getElementById("link-state");
  node.dataset.state = state;
  setText(document.getElementById("link-text"), text);
}

let lostTimer = null;
function connection({ state, reason }) {
  if (state === "open") {
    clearTimeout(lostTimer);
    lostTimer = null;
    linkState("open", "Connected");
    banner("connection", null);
  } else if (state === "missing") {
    clearTimeout(lostTimer);
    lostTimer = null;
    if (current) { current.screen?.remove?.(); tools.replaceChildren(theme); join(); }
  } else if (state === "refused") {
    clearTimeout(lostTimer);
    linkState("lost", "Not admitted");
    current?.screen?.remove?.();
    show(refusedScreen(reason));
  } else {
    linkState(state === "lost" ? "lost" : "connecting", state === "lost" ? "Reconnecting…" : "Connecting…");
    lostTimer ??= setTimeout(() => banner("connection",
      "The connection is lost. The page keeps trying; what you do is kept here until it is stored.", { kind: "warn" }),
    LOST_AFTER_MS);
  }
}

let pendingTimer = null;
function pending({ count: waiting }) {
  const node = document.getElementById("link-state");
  node.dataset.pending = waiting;
  // Acknowledgements take milliseconds; a number is worth showing only when one is late.
  clearTimeout(pendingTimer);
  pendingTimer = setTimeout(() => {
    const open = node.dataset.state === "open";
    if (open) setText(document.getElementById("link-text"), waiting ? `${count(waiting, "event")} not stored yet` : "Connected");
  }, waiting ? 400 : 0);
}

function storage({ ok, message }) {
  banner("storage", ok ? null : message || "Nothing more is being stored.", { kind: "bad" });
  if (ok) announce("Storing works again.");
}

const theme = themeButton();
tools.append(theme);
addEventListener("beforeunload", (event) => {
  // Events in the browser's storage survive, but only this browser can send them, and only from this page.
  if (current?.link.outbox.size && !current.link.ready) event.preventDefault();
});
export { dialog };
join();
