/**
 * The only way this page makes elements.
 *
 * Children that are strings become text nodes: nothing from upstream is ever parsed as
 * markup, whatever it contains.
 */

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/**
 * Return the element of index.html with this id.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`index.html has no element #${id}`);
  }
  return found;
}

/**
 * Set the text of an element, and leave the document alone where it is the same.
 *
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/**
 * Say something to screen readers, after what they are saying now.
 *
 * @param {string} text
 */
export function announce(text) {
  byId("announcer").textContent = text;
}
