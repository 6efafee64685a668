/** What the page remembers in the browser. Private windows may refuse storage: then it is forgotten. */

export function recall(key) {
  try { return localStorage.getItem(`textrl:${key}`); } catch { return null; }
}

export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(`textrl:${key}`);
    else localStorage.setItem(`textrl:${key}`, value);
    return true;
  } catch { return false; }
}

/** Every remembered key that begins so, without the page's own prefix. */
export function recallAll(prefix) {
  const found = [];
  try {
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (key.startsWith(`textrl:${prefix}`)) found.push(key.slice("textrl:".length));
    }
  } catch { /* nothing is remembered */ }
  return found;
}
