/**
 * How the upstream feeds are, as the edge tells it.
 *
 * Whatever is missing in a status is left out here: an older edge says less. While there
 * is no connection, the last words stay and are marked as old.
 */

import { tellAge, tellSince, tellSpan } from "./clock.js";
import { byId, element, mend, setText } from "./dom.js";
import { tellReason } from "./gaps.js";

const NAMES = { fmp: "FMP", ls: "LS Securities" };
const MEANINGS = {
  live: "Data flows",
  degraded: "Far less comes than is usual",
  closed: "The market is closed, and nothing comes",
  idle: "Nothing is wanted from it, so it is not connected",
  connecting: "The connection is being made",
  down: "There is no connection; it is tried again",
  refused: "The feed refused the key or the request",
  busy: "Somebody else uses the only connection",
  unknown: "Nothing has been heard of the feed itself for 12 s",
};

const GAPS_SHOWN = 3;

export class FeedsPanel {
  /** @param {import("./feed_gaps.js").FeedGaps} gaps */
  constructor(gaps) {
    this.gaps = gaps;
    this.panel = byId("feeds");
    this.note = byId("feeds-note");
    /** @type {Map<string, any>} */
    this.feeds = new Map();
    this.heardAt = 0;
    this.failure = "";
    setInterval(() => this.#tick(), 1000);
  }

  /**
   * Take the status of one feed.
   *
   * @param {any} status
   */
  take(status) {
    this.feeds.set(String(status.feed), status);
    this.heard();
  }

  /** The edge is there and has told what it knows. */
  heard() {
    this.heardAt = Date.now();
    this.failure = "";
    this.panel.dataset.state = "known";
    this.#tick();
  }

  /**
   * Say that there is no newer status, and why.
   *
   * @param {string} reason
   */
  fail(reason) {
    this.failure = reason;
    this.panel.dataset.state = "old";
    this.#tick();
  }

  #tick() {
    this.note.dataset.state = this.failure === "" ? "known" : "failed";
    if (this.failure !== "") {
      const age = this.heardAt === 0 ? "" : tellAge(Date.now() - this.heardAt);
      setText(this.note, age === "" ? this.failure : `${this.failure}, for ${age}`);
    } else if (this.heardAt > 0) {
      setText(this.note, "");
      this.render();
    }
  }

  /** Show what is known now. */
  render() {
    const cards = [...this.feeds].map(([name, feed]) =>
      feedCard(name, feed, this.gaps.of(name).slice(0, GAPS_SHOWN)),
    );
    if (cards.length === 0) {
      cards.push(element("p", { class: "empty" }, "No feed has said anything yet."));
    }
    mend(this.panel, element("div", {}, ...cards));
  }
}

/**
 * @param {string} name
 * @param {any} feed
 * @param {import("./feed_gaps.js").FeedGap[]} gaps
 */
function feedCard(name, feed, gaps) {
  const state = String(feed.state ?? "unknown");
  const title = NAMES[/** @type {keyof NAMES} */ (name)] ?? name;
  const since = tellSince(feed.since);
  const heard = tellSince(feed.last_message_at);
  const facts = [
    heard === null ? "no message yet" : `last message ${heard} ago`,
    since === null ? "" : `${state} for ${since}`,
    tellReconnects(feed.reconnects),
  ];
  const links = Object.entries(feed.links ?? {}).map(([link, of]) => linkLine(link, of ?? {}));
  return element(
    "article",
    { class: "feed", "data-testid": `feed-${name}`, "data-state": state },
    head(title, badge(state)),
    element("p", { class: "facts" }, ...apart(facts)),
    element("ul", { class: "links" }, ...links),
    ...(gaps.length > 0 ? [element("ul", { class: "feed-gaps" }, ...gaps.map(gapLine))] : []),
  );
}

/** @param {import("./feed_gaps.js").FeedGap} gap */
function gapLine({ link, from, to, reason, backfilled }) {
  const span = tellSpan(Date.parse(from), to === null ? null : Date.parse(to));
  const what = backfilled ? "was missed and got later" : "may be missing";
  return element(
    "li",
    { "data-testid": "feed-gap", "data-state": to === null ? "open" : "ended" },
    `${link}: what came ${span} ${what} (${tellReason(reason)})`,
  );
}

/**
 * @param {string} name
 * @param {any} link
 */
function linkLine(name, link) {
  const state = String(link.state ?? "unknown");
  const heard = tellSince(link.last_message_at);
  const counts =
    typeof link.desired === "number"
      ? `${link.confirmed ?? 0} of ${link.desired} subscribed`
      : "";
  const ends = link.reconnects > 0 ? tellReconnects(link.reconnects) : "";
  const facts = [counts, heard === null ? "" : `${heard} ago`, ends];
  const line = element(
    "li",
    { "data-testid": `link-${name}`, "data-state": state },
    element("span", { class: "link-name" }, name),
    badge(state),
    element("span", { class: "facts" }, ...apart(facts)),
  );
  if (link.reason) {
    line.append(element("span", { class: "reason" }, String(link.reason)));
  }
  return line;
}

/**
 * @param {string} title
 * @param {HTMLElement} state
 */
function head(title, state) {
  return element("div", { class: "feed-head" }, element("h3", {}, title), state);
}

/** @param {string} state */
function badge(state, word = state) {
  const title = MEANINGS[/** @type {keyof MEANINGS} */ (state)] ?? "";
  return element("span", { class: "state", "data-state": state, title }, word);
}

/**
 * Put dots between what there is to say; a line is broken only there.
 *
 * @param {string[]} facts
 */
function apart(facts) {
  const said = facts.filter(Boolean);
  return said.map((fact, at) =>
    element("span", {}, at < said.length - 1 ? `${fact} · ` : fact),
  );
}

/** @param {unknown} count */
function tellReconnects(count) {
  if (typeof count !== "number") {
    return "";
  }
  return count === 1 ? "1 reconnect" : `${count} reconnects`;
}
