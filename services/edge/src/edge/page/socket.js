/**
 * A WebSocket that comes back by itself.
 *
 * Every end of a connection is treated alike: wait, then connect anew. The wait grows with
 * full jitter to a ceiling and is forgotten only when a frame came: a server that accepts
 * connections and then drops them is not called ever faster.
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const CONNECT_MS = 10_000;

/**
 * @typedef {"connecting" | "live" | "reconnecting"} Phase
 *
 * @typedef {object} SocketHandlers
 * @property {() => void} [opened] The handshake worked.
 * @property {(text: string) => void} frame A text frame came.
 * @property {() => void} changed The phase or the time of the next attempt changed.
 */

export class ReconnectingSocket {
  /**
   * @param {string} path
   * @param {SocketHandlers} handlers
   * @param {{liveOnFrame?: boolean}} [options] Whether a handshake is not enough to be
   *   called live, because the server always says something first.
   */
  constructor(path, handlers, options = {}) {
    const url = new URL(path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    this.url = url;
    this.handlers = handlers;
    this.liveOnFrame = options.liveOnFrame ?? false;
    /** @type {Phase} */
    this.phase = "connecting";
    /** When the next attempt is made, while reconnecting. */
    this.retryAt = 0;
    this.lastFrameAt = 0;
    this.failures = 0;
    this.timer = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
  }

  /** Connect at once, in place of whatever connection or wait there is. */
  connect() {
    this.#abandon();
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.timer = setTimeout(() => this.#lost(), CONNECT_MS);
    socket.onopen = () => {
      clearTimeout(this.timer);
      this.lastFrameAt = Date.now();
      if (!this.liveOnFrame) {
        this.#enter("live");
      }
      this.handlers.opened?.();
    };
    socket.onmessage = (event) => {
      this.failures = 0;
      this.lastFrameAt = Date.now();
      this.#enter("live");
      this.handlers.frame(event.data);
    };
    socket.onclose = () => this.#lost();
    this.#enter("connecting");
  }

  /**
   * Send a value as JSON; false where there is no connection.
   *
   * @param {unknown} value
   */
  send(value) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      return false;
    }
    this.socket.send(JSON.stringify(value));
    return true;
  }

  /** How long nothing has come on a connection that is live; 0 on one that is not. */
  get quietMs() {
    return this.phase === "live" ? Date.now() - this.lastFrameAt : 0;
  }

  #lost() {
    this.#abandon();
    const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures);
    const wait = Math.random() * ceiling;
    this.failures += 1;
    this.retryAt = Date.now() + wait;
    this.timer = setTimeout(() => this.connect(), wait);
    this.phase = "reconnecting";
    this.handlers.changed();
  }

  /** Let go of the connection; what it still says must not reach the next one. */
  #abandon() {
    clearTimeout(this.timer);
    if (this.socket !== null) {
      this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
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
