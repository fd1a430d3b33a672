/**
 * What this browser remembers of its reader.
 *
 * A browser may forbid it; then the page works and remembers nothing.
 */

const PREFIX = "feedmesh.";

/**
 * @param {string} key
 * @returns {string | null}
 */
export function recall(key) {
  return attempt(() => localStorage.getItem(PREFIX + key)) ?? null;
}

/**
 * @param {string} key
 * @param {string} text
 */
export function remember(key, text) {
  attempt(() => localStorage.setItem(PREFIX + key, text));
}

/**
 * Return what was remembered for as long as this tab is open.
 *
 * @param {string} key
 * @returns {string | null}
 */
export function recallInTab(key) {
  return attempt(() => sessionStorage.getItem(PREFIX + key)) ?? null;
}

/**
 * @param {string} key
 * @param {string} text
 */
export function rememberInTab(key, text) {
  attempt(() => sessionStorage.setItem(PREFIX + key, text));
}

/** @param {string} key */
export function forgetInTab(key) {
  attempt(() => sessionStorage.removeItem(PREFIX + key));
}

/**
 * @template Result
 * @param {() => Result} access
 * @returns {Result | undefined}
 */
function attempt(access) {
  try {
    return access();
  } catch {
    // Forbidden or full: nothing that the reader could mend here.
    return undefined;
  }
}
