/**
 * How the upstream feeds are, as the edge tells it.
 *
 * Whatever is missing in a status is left out here: an older edge says less. While the
 * edge does not answer, its last words stay and are marked as old.
 */

import { tellAge, tellSince } from "./clock.js";
import { byId, element, mend, setText } from "./dom.js";

const NAMES = { fmp: "FMP", ls: "LS Securities" };
const MEANINGS = {
  live: "Data flows",
  connecting: "The connection is being made",
  down: "There is no connection; it is tried again",
  refused: "The feed refused the key or the request",
  busy: "Somebody else uses the only connection",
  unknown: "The ingest service says nothing",
};

export class FeedsPanel {
  constructor() {
    this.panel = byId("feeds");
    this.note = byId("feeds-note");
    this.answeredAt = 0;
    /** @type {any} */
    this.status = null;
    this.failure = "";
    setInterval(() => this.#tick(), 1000);
  }

  /**
   * Show a status.
   *
   * @param {any} status
   */
  show(status) {
    this.status = status;
    this.answeredAt = Date.now();
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
    if (this.failure !== "") {
      const last =
        this.answeredAt === 0
          ? ""
          : `; last status ${tellAge(Date.now() - this.answeredAt)} ago`;
      setText(this.note, `No status: ${this.failure}${last}`);
      this.note.dataset.state = "failed";
    } else if (this.status !== null) {
      this.note.dataset.state = "known";
      setText(this.note, tellEdge(this.status));
      this.#render();
    }
  }

  #render() {
    const feeds = Object.entries(this.status.feeds ?? {});
    const cards = feeds.map(([name, feed]) => feedCard(name, feed ?? {}));
    if (feeds.length === 0) {
      cards.push(element("p", { class: "empty" }, "No feed has said anything yet."));
    }
    mend(this.panel, element("div", {}, natsCard(this.status.nats ?? {}), ...cards));
  }
}

/** @param {any} status */
function tellEdge(status) {
  const parts = [];
  if (typeof status.clients === "number") {
    parts.push(`${status.clients} ${status.clients === 1 ? "connection" : "connections"}`);
  }
  if (Array.isArray(status.symbols)) {
    parts.push(`${status.symbols.length} symbols`);
  }
  return parts.length > 0 ? `This edge: ${parts.join(", ")}` : "";
}

/** @param {any} nats */
function natsCard(nats) {
  const state =
    nats.connected === undefined ? "unknown" : nats.connected ? "live" : "down";
  const word = { live: "connected", down: "not connected", unknown: "unknown" }[state];
  const facts = tellReconnects(nats.reconnects);
  return element(
    "article",
    { class: "feed", "data-testid": "nats", "data-state": state },
    head("NATS", badge(state, word)),
    element("p", { class: "facts" }, facts || "–"),
  );
}

/**
 * @param {string} name
 * @param {any} feed
 */
function feedCard(name, feed) {
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
