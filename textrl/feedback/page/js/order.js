/**
 * A ranking while it is being made: groups of responses, best first; a group of several is a tie.
 *
 * Plain values, no page: every function returns a new order and leaves the old one. Responses are numbers
 * from 0, as they stand on the screen; those in no group are not ranked yet.
 */

/** Whether a response has its place. */
export function placed(order, response) {
  return order.some((group) => group.includes(response));
}

/** Without one response; groups that become empty go. */
export function without(order, response) {
  return order.map((group) => group.filter((one) => one !== response)).filter((group) => group.length > 0);
}

/** A response that has no place yet comes last. */
export function append(order, response) {
  return placed(order, response) ? order : [...order, [response]];
}

/** Put a response on its own before the group at `index` of the order without it. */
export function insert(order, response, index) {
  const rest = without(order, response);
  return [...rest.slice(0, index), [response], ...rest.slice(index)];
}

/** Put a response into the same group as another. */
export function join(order, response, other) {
  if (response === other || !placed(order, other)) return order;
  return without(order, response).map((group) => (group.includes(other) ? [...group, response] : group));
}

/**
 * One place up (-1) or down (+1). Out of a tie a response goes just before or after it; a response on its
 * own changes places with the group next to it.
 */
export function move(order, response, by) {
  const at = order.findIndex((group) => group.includes(response));
  if (at < 0) return order;
  if (order[at].length > 1) {
    const rest = order.map((group) => group.filter((one) => one !== response));
    const index = by < 0 ? at : at + 1;
    return [...rest.slice(0, index), [response], ...rest.slice(index)];
  }
  const to = at + by;
  if (to < 0 || to >= order.length) return order;
  const next = [...order];
  [next[at], next[to]] = [next[to], next[at]];
  return next;
}

/** "=": tie a response with the group above; one that is tied already leaves its tie, downwards. */
export function toggleTie(order, response) {
  const at = order.findIndex((group) => group.includes(response));
  if (at < 0) return order;
  if (order[at].length > 1) return move(order, response, 1);
  return at === 0 ? order : join(order, response, order[at - 1][0]);
}

/** Rank of each response: 1 is best, ties share, and after a tie of two the next is one further (1, 1, 2). */
export function ranks(order, size) {
  return Array.from({ length: size }, (_, response) => {
    const at = order.findIndex((group) => group.includes(response));
    return at < 0 ? null : at + 1;
  });
}

/** The order that ranks describe. */
export function fromRanks(values) {
  const steps = [...new Set(values.filter((rank) => rank !== null && rank !== undefined))].sort((a, b) => a - b);
  return steps.map((rank) => values.flatMap((value, response) => (value === rank ? [response] : [])));
}

/** In words: "2 best, then 1 and 3 alike". */
export function say(order) {
  if (order.length === 0) return "Nothing is ranked yet.";
  const groups = order.map((group) => group.map((one) => one + 1).join(" and ") + (group.length > 1 ? " alike" : ""));
  return `Best first: ${groups.join(", then ")}.`;
}
