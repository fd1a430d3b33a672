/**
 * What may be missing, in plain words, until the reader has seen it.
 *
 * A page that only shows what came looks whole when it is not.
 */

import { tellSpan } from "./clock.js";
import { announce, element, setText } from "./dom.js";

const MOST = 3;
const REASONS = {
  too_far_behind: "more was missed than the edge keeps",
  expired: "what came then is no longer kept",
  removed: "items were removed from the log",
  stream_recreated: "the log was lost and begins anew",
  unknown_position: "the log was set back",
  stream_unavailable: "the log could not be read",
  edge_is_behind: "this edge has not caught up yet",
  slow_client: "this page could not keep up",
  lost_on_the_way: "they were lost on the way to the edge",
  // Of a feed.
  dropped: "the connection to the feed was lost",
  silent: "the feed fell silent",
  no_pong: "the feed fell silent",
  unreachable: "the feed could not be reached",
  slot_taken: "somebody else used the only connection",
  unauthorized: "the feed refused the account",
  planned: "the connection was opened anew",
  handover: "another ingest took over",
  takeover: "another ingest took over",
  restart: "no ingest was running",
  spool_full: "too much waited to be stored",
  queue_full: "too much waited to be stored",
};

/**
 * Say in words why there is a gap.
 *
 * @param {string} reason A constant word; new ones come.
 */
export function tellReason(reason) {
  if (reason.startsWith("closed_")) {
    return "the feed closed the connection";
  }
  if (reason.startsWith("http_")) {
    return "the feed refused the connection";
  }
  return REASONS[/** @type {keyof REASONS} */ (reason)] ?? reason;
}

/**
 * Say what a gap means for the reader: in short, and in full.
 *
 * @param {import("./stream.js").Gap} gap
 */
export function tellGap({ channel, reason, from, to }) {
  const [what, also] =
    channel === "news" ? ["News", ""] : ["Price updates", " You see the newest values."];
  const brief = `${what} ${tellSpan(from, to)} may be missing`;
  return { brief, full: `${brief} (${tellReason(reason)}).${also}` };
}

/**
 * Return the child of *list* that shows the gap of this id, if there is one.
 *
 * @param {Element} list
 * @param {string} id Empty for a gap that has none.
 */
export function findGap(list, id) {
  const shown = /** @type {HTMLElement[]} */ ([...list.children]);
  return id === "" ? undefined : shown.find((child) => child.dataset.gap === id);
}

/**
 * A few notes at the head of a panel, newest first, each with a way to put it away.
 */
export class GapNotes {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    /** @type {Set<string>} of gaps that the reader wants to hear no more of */
    this.dismissed = new Set();
  }

  /**
   * Note a gap, or what became of it.
   *
   * @param {import("./stream.js").Gap} gap
   */
  put(gap) {
    const { id = "" } = gap;
    const { brief, full } = tellGap(gap);
    if (id !== "" && this.dismissed.has(id)) {
      return;
    }
    const known = findGap(this.list, id);
    if (known === undefined) {
      const shown = /** @type {HTMLElement[]} */ ([...this.list.children]);
      const older = shown.find((note) => Number(note.dataset.from) <= gap.from);
      this.list.insertBefore(this.#note(gap, brief, full), older ?? null);
    } else {
      setText(/** @type {Element} */ (known.firstElementChild), full);
    }
    while (this.list.childElementCount > MOST) {
      this.list.lastElementChild?.remove();
    }
    announce(brief);
  }

  /**
   * @param {import("./stream.js").Gap} gap
   * @param {string} brief
   * @param {string} full
   */
  #note({ id = "", channel, from }, brief, full) {
    const dismiss = element("button", {
      class: "icon-button remove",
      type: "button",
      "aria-label": `Dismiss: ${brief}`,
      title: "Dismiss",
      "data-testid": "gap-dismiss",
    });
    const note = element("li", { class: "gap-note", "data-testid": `gap-${channel}` });
    Object.assign(note.dataset, { gap: id, from });
    note.append(element("p", {}, full), dismiss);
    dismiss.addEventListener("click", () => {
      const next = note.nextElementSibling ?? note.previousElementSibling;
      note.remove();
      this.dismissed.add(id);
      next?.querySelector("button")?.focus();
    });
    return note;
  }
}
