/** The client's clock, in seconds since 1970: it never falls while the page lives, unlike Date. */
export function now() {
  return (performance.timeOrigin + performance.now()) / 1000;
}

/** When an input event happened, on the same clock: earlier than the moment its handler runs. */
export function timeOf(event) {
  // A script's own events (and old browsers') may carry another time base; those are stamped now.
  const stamp = event?.timeStamp;
  const usable = stamp > 0 && stamp <= performance.now() + 1 && performance.now() - stamp < 2000;
  return usable ? (performance.timeOrigin + stamp) / 1000 : now();
}

/** A random UUID (version 4). crypto.randomUUID is missing on a plain-http address in the lab's network. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
