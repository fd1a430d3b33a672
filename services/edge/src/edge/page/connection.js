/**
 * What the reader is told of this page's own connection.
 *
 * One short label, always there; and one sentence across the page while something is
 * wrong, with the way to try again at once.
 */

import { announce, byId, element, setText } from "./dom.js";

/** @typedef {import("./stream.js").Stream} Stream */

export class ConnectionView {
  /** @param {Stream} stream */
  constructor(stream) {
    this.stream = stream;
    this.target = byId("connection");
    this.label = element("span", { class: "connection-state" });
    this.target.replaceChildren(element("span", { class: "dot" }), this.label);
    this.banner = byId("banner");
    this.wasWell = true;
    byId("reconnect").addEventListener("click", () => stream.connect());
    setInterval(() => this.show(), 1000);
  }

  /** Show how everything is now. */
  show() {
    const state = stateOf(this.stream);
    this.target.dataset.state = state;
    tell(this.label, state, this.stream);
    this.target.title = state === "live" ? `Connected to ${this.stream.edge}` : "";
    const text = sentence(state, this.stream);
    if (text !== "") {
      setText(byId("banner-text"), text);
    }
    // While it is tried again the sentence stays, so that the page does not jump.
    const asksForToken = state === "token";
    const well = state === "live" || asksForToken || (this.wasWell && text === "");
    this.#tellChange(well, asksForToken);
    this.banner.hidden = well;
    document.documentElement.dataset.connection = well && !asksForToken ? "well" : "lost";
  }

  /**
   * @param {boolean} well
   * @param {boolean} asksForToken
   */
  #tellChange(well, asksForToken) {
    if (well !== this.wasWell) {
      this.wasWell = well;
      const back = asksForToken ? "" : "The connection is back";
      announce(well ? back : (byId("banner-text").textContent ?? ""));
    }
  }
}

/** @param {Stream} stream */
function stateOf({ phase }) {
  const tries = phase === "connecting" || phase === "reconnecting";
  return tries && !navigator.onLine ? "offline" : phase;
}

/**
 * @param {HTMLElement} label
 * @param {string} state
 * @param {Stream} stream
 */
function tell(label, state, { retryAt, comeBackAt, closeCode }) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  const restarts = comeBackAt > 0;
  const text = {
    reconnecting: restarts ? "edge restarts" : "reconnecting",
    token: "needs a token",
    stopped: `ended (${closeCode})`,
  }[state];
  const waits = state === "reconnecting" && seconds > 0;
  setText(label, waits ? `${text}, ${seconds} s` : (text ?? state));
}

/**
 * @param {string} state
 * @param {Stream} stream
 */
function sentence(state, { comeBackAt, closeCode }) {
  if (state === "stopped") {
    return `The edge has ended the connection (code ${closeCode}). Reload the page.`;
  }
  if (state === "offline") {
    return "This device is offline. You see the last values.";
  }
  if (state === "reconnecting") {
    const why = comeBackAt > 0 ? "The edge restarts." : "No connection to the edge.";
    return `${why} You see the last values; missed news is filled in.`;
  }
  return "";
}
