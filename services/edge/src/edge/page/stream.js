/**
 * The one connection of this page: protocol v3, kept open, taken up again where it was.
 *
 * It keeps a position for news and for prices, and gives them back when it comes back:
 * the edge then sends what was missed, or says that it cannot, and that is told as a gap.
 * Silence for twice the heartbeat ends a connection, whatever the browser thinks of it.
 * The wait before the next one grows with full jitter to a ceiling and is forgotten only
 * when a request was answered: an edge that accepts connections and then drops them is
 * not called ever faster. If the edge said when to come back, that holds.
 */

import { learnServerTime, serverNow } from "./clock.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const CONNECT_MS = 10_000;
const UNAUTHENTICATED = 4001;

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "token" | "stopped"} Phase
 *   `token`: it waits for one; `stopped`: coming back unchanged would not help.
 *
 * @typedef {{type: string, [field: string]: any}} Message
 *
 * @typedef {{channel: "prices" | "news" | "status", [field: string]: unknown}} Subscription
 *
 * @typedef {object} StreamHandlers
 * @property {() => Subscription[]} wanted What to subscribe to, as it is wanted now.
 * @property {(message: Message, text: string) => void} message
 * @property {(gap: Gap) => void} gap Something may be missing.
 * @property {() => void} changed The phase or the time of the next attempt changed.
 *
 * @typedef {object} Gap
 * @property {string} [id] Of one that is told again when it ends.
 * @property {"prices" | "news"} channel
 * @property {string} reason A constant word.
 * @property {number} from When all was still there; milliseconds since the epoch.
 * @property {number | null} to Null while it lasts.
 */

export class Stream {
  /**
   * @param {string} path
   * @param {StreamHandlers} handlers
   */
  constructor(path, handlers) {
    const url = new URL(path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = url.search = "";
    this.url = url;
    this.handlers = handlers;
    /** @type {Phase} */
    this.phase = "connecting";
    /** When the next attempt is made, while reconnecting. */
    this.retryAt = 0;
    /** When the edge wants to be called again, if it said that it goes away. */
    this.comeBackAt = 0;
    this.closeCode = 0;
    this.edge = "";
    this.token = "";
    this.tokenRefused = false;
    this.failures = 0;
    this.timer = 0;
    this.silenceMs = CONNECT_MS;
    /** @type {{news?: string, prices?: string[]}} up to where everything is here */
    this.positions = {};
    /** @type {{news: number, prices: number}} when that was so, as the edge's clock has it */
    this.completeAt = { news: 0, prices: 0 };
    /** @type {WebSocket | null} */
    this.socket = null;
  }

  /** Connect at once, in place of whatever connection or wait there is. */
  connect() {
    this.#abandon();
    const socket = new WebSocket(this.url, "feedmesh.v1.json");
    this.socket = socket;
    this.silenceMs = CONNECT_MS;
    this.comeBackAt = 0;
    this.#expect();
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#ended(event.code);
    this.#enter("connecting");
  }

  /**
   * Say who the reader is, from now on.
   *
   * @param {string} token
   */
  useToken(token) {
    this.token = token;
    this.tokenRefused = false;
    this.connect();
  }

  /**
   * Send a request; nothing where there is no connection, which asks for all anew.
   *
   * @param {Record<string, unknown>} request
   */
  send(request) {
    if (this.phase === "live") {
      this.socket?.send(JSON.stringify(request));
    }
  }

  /** @param {string} text */
  #hear(text) {
    const message = JSON.parse(text);
    this.#expect();
    switch (message.type) {
      case "hello":
        this.silenceMs = 2 * message.heartbeat_ms;
        this.edge = message.edge;
        learnServerTime(message.at);
        this.#begin(message.auth);
        return;
      case "ack":
      case "error":
        this.failures = 0;
        this.#enter("live");
        break;
      case "heartbeat":
        learnServerTime(message.at);
        break;
      case "going_away":
        this.comeBackAt = Date.now() + message.reconnect_after_ms;
        break;
    }
    if (message.recovered === false || message.type === "gap") {
      this.#tellGap(message);
    }
    this.handlers.message(message, text);
    this.#note(message);
  }

  /** @param {boolean} auth Whether the edge asks for a token. */
  #begin(auth) {
    if (auth && this.token === "") {
      this.#stop("token");
      return;
    }
    const requests = this.handlers.wanted().map((wanted) => this.#resume(wanted));
    for (const request of auth ? [{ op: "auth", token: this.token }, ...requests] : requests) {
      this.socket?.send(JSON.stringify(request));
    }
  }

  /**
   * Each channel by itself: one that a token does not allow must not cost the others.
   *
   * @param {Subscription} wanted
   */
  #resume(wanted) {
    const since = /** @type {Record<string, unknown>} */ (this.positions)[wanted.channel];
    const subscription = since === undefined ? wanted : { ...wanted, since };
    return { op: "resume", id: wanted.channel, subscriptions: [subscription] };
  }

  /**
   * Keep what the next connection needs.
   *
   * @param {Message} message
   */
  #note({ type, channel, position, positions = {} }) {
    const now = serverNow();
    if (type === "news") {
      this.positions.news = position;
      this.completeAt.news = now;
    } else if (type === "price_update") {
      this.completeAt.prices = now;
    } else if (type === "heartbeat" || type === "snapshot_end") {
      Object.assign(this.positions, positions);
      for (const one of /** @type {const} */ (["news", "prices"])) {
        if (channel === undefined || channel === one) {
          this.completeAt[one] = now;
        }
      }
    }
  }

  /** @param {Message} message */
  #tellGap({ channel, reason }) {
    // Of a feed that was not heard before, nothing can be missing.
    if (reason !== "no_position" && (channel === "news" || channel === "prices")) {
      const to = serverNow();
      this.handlers.gap({ channel, reason, from: this.completeAt[channel] || to, to });
    }
  }

  /** Count silence from now on. */
  #expect() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#lost(), this.silenceMs);
  }

  /** @param {number} code */
  #ended(code) {
    this.closeCode = code;
    if (code === UNAUTHENTICATED) {
      this.token = "";
      this.tokenRefused = true;
      this.#stop("token");
    } else if ([1002, 1003, 1007, 1009].includes(code) || (code >= 4000 && code < 4100)) {
      this.#stop("stopped");
    } else {
      this.#lost();
    }
  }

  #lost() {
    this.#abandon();
    const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures);
    const told = this.comeBackAt - Date.now();
    const wait = this.comeBackAt > 0 ? Math.max(0, told) : Math.random() * ceiling;
    this.failures += 1;
    this.retryAt = Date.now() + wait;
    this.timer = setTimeout(() => this.connect(), wait);
    this.phase = "reconnecting";
    this.handlers.changed();
  }

  /** @param {"token" | "stopped"} phase */
  #stop(phase) {
    this.#abandon();
    this.phase = phase;
    this.handlers.changed();
  }

  /** Let go of the connection; what it still says must not reach the next one. */
  #abandon() {
    clearTimeout(this.timer);
    if (this.socket !== null) {
      this.socket.onmessage = this.socket.onclose = null;
      this.socket.close();
      this.socket = null;
    }
  }

  /** @param {Phase} phase */
  #enter(phase) {
    if (this.phase !== phase) {
      this.phase = phase;
      this.handlers.changed();
    }
  }
}
