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
 * Make one element like another of the same kind, touching only what differs: what the
 * reader points at or has selected stays where it is.
 *
 * @param {Element} target
 * @param {Element} model
 */
export function mend(target, model) {
  for (const { name, value } of model.attributes) {
    if (target.getAttribute(name) !== value) {
      target.setAttribute(name, value);
    }
  }
  const sameShape =
    target.children.length === model.children.length &&
    [...target.children].every((child, at) => child.tagName === model.children[at].tagName);
  if (!sameShape) {
    target.replaceChildren(...model.childNodes);
  } else if (model.children.length === 0) {
    setText(target, model.textContent ?? "");
  } else {
    [...target.children].forEach((child, at) => mend(child, model.children[at]));
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
