/**
 * What the reader is told of this page's own connections.
 *
 * One short label each, always there; and one sentence across the page while something
 * is wrong, with the way to try again at once.
 */

import { announce, byId, element, setText } from "./dom.js";

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "offline"} ConnectionState
 *
 * @typedef {object} Connection
 * @property {string} name
 * @property {() => {state: ConnectionState, retryAt: number}} read
 */

export class ConnectionsView {
  /**
   * @param {Record<string, Connection>} connections By the id of their label.
   * @param {() => void} reconnect
   */
  constructor(connections, reconnect) {
    this.parts = Object.entries(connections).map(([id, connection]) => {
      const target = byId(id);
      const name = element("span", { class: "connection-name" }, connection.name);
      const state = element("span", { class: "connection-state" });
      target.replaceChildren(element("span", { class: "dot" }), name, state);
      return { ...connection, target, label: state };
    });
    this.banner = byId("banner");
    this.wasWell = true;
    byId("reconnect").addEventListener("click", reconnect);
    setInterval(() => this.show(), 1000);
  }

  /** Show how everything is now. */
  show() {
    /** @type {string[]} */
    const lost = [];
    let allLive = true;
    for (const { name, read, target, label } of this.parts) {
      const { state, retryAt } = read();
      target.dataset.state = state;
      tell(label, state, retryAt);
      allLive &&= state === "live";
      if (state === "reconnecting" || state === "offline") {
        lost.push(name);
      }
    }
    if (lost.length > 0) {
      const offline = this.parts.every(({ read }) => read().state === "offline");
      setText(byId("banner-text"), sentence(lost, offline));
    }
    // While it is tried again the sentence stays, so that the page does not jump.
    const well = allLive || (this.wasWell && lost.length === 0);
    this.#tellChange(well);
    this.banner.hidden = well;
    document.documentElement.dataset.connection = well ? "well" : "lost";
  }

  /** @param {boolean} well */
  #tellChange(well) {
    if (well !== this.wasWell) {
      this.wasWell = well;
      announce(well ? "The connection is back" : (byId("banner-text").textContent ?? ""));
    }
  }
}

/**
 * @param {HTMLElement} label
 * @param {ConnectionState} state
 * @param {number} retryAt
 */
function tell(label, state, retryAt) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  const text =
    state === "reconnecting" && seconds > 0 ? `reconnecting in ${seconds} s` : state;
  if (label.textContent !== text) {
    // A phone has no room for the long word; the colour and the sentence say it too.
    const [, long = "", rest = text] = /^(reconnecting )(in .*)$/.exec(text) ?? [];
    label.replaceChildren(element("span", { class: "long" }, long), rest);
  }
}

/**
 * @param {string[]} lost
 * @param {boolean} offline
 */
function sentence(lost, offline) {
  if (offline) {
    return "This device is offline. You see the last values.";
  }
  if (lost.length > 1) {
    return "No connection to the edge. You see the last values.";
  }
  return {
    Prices: "No price connection. You see the last prices.",
    News: "No news connection. What is missed is filled in later.",
  }[lost[0]] ?? "The edge tells no status. Prices and news still flow.";
}
