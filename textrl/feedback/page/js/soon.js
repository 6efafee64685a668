/**
 * Changes of the page that an input's handler asks for, made in the task after it.
 *
 * Where the handler of a key leaves the page changed, Chromium holds all other tasks back until the change
 * is painted. What the server answers meanwhile, that the press is stored, would come one frame late. Made
 * in a task of its own the same change is painted in the same frame, and holds nothing back.
 *
 * @param {function()} change
 */
export function soon(change) {
  if (globalThis.scheduler?.postTask) scheduler.postTask(change, { priority: "user-blocking" });
  else setTimeout(change);
}
