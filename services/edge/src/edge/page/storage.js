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
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string} text
 */
export function remember(key, text) {
  try {
    localStorage.setItem(PREFIX + key, text);
  } catch {
    // Forbidden or full: nothing that the reader could mend here.
  }
}
