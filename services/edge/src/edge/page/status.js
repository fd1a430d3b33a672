/** Asks the edge for its status, every few seconds and for ever. */

import { learnServerTime } from "./clock.js";

const EVERY_MS = 3000;
const ANSWER_MS = 5000;

/**
 * @typedef {object} StatusHandlers
 * @property {(status: any) => void} answered
 * @property {(reason: string) => void} failed
 */

export class StatusPoll {
  /**
   * @param {string} path
   * @param {StatusHandlers} handlers
   */
  constructor(path, handlers) {
    this.path = path;
    this.handlers = handlers;
    /** How many polls in a row have failed. */
    this.failures = 0;
    this.timer = 0;
  }

  /** Ask now, and again a while after each answer. */
  async run() {
    clearTimeout(this.timer);
    try {
      const answer = await fetch(this.path, {
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      if (!answer.ok) {
        throw new Error(`the edge answered ${answer.status}`);
      }
      const status = await answer.json();
      learnServerTime(answer.headers.get("date"));
      this.failures = 0;
      this.handlers.answered(status);
    } catch (error) {
      this.failures += 1;
      this.handlers.failed(reasonOf(error));
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(), EVERY_MS);
  }
}

/** @param {unknown} error */
function reasonOf(error) {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return "the edge does not answer in time";
  }
  if (error instanceof TypeError) {
    return "the edge cannot be reached";
  }
  return error instanceof SyntaxError
    ? "the edge answered with something unreadable"
    : String(error instanceof Error ? error.message : error);
}
