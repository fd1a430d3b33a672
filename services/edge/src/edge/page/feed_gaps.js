/**
 * When an upstream feed itself was not heard: nobody can send what it said then.
 *
 * Those of before come over REST at each new connection, those of now on the stream. Of
 * the records of one gap the last one holds: it opens, and later it ends.
 */

import { serverNow } from "./clock.js";

const PATH = "api/v3/gaps?limit=50";
const ANSWER_MS = 10_000;
const MOST = 200;
// What ended longer ago is told with its feed, and not noted on top.
const RECENT_MS = 3_600_000;
const NEWS_LINK = "news";

/**
 * @typedef {object} FeedGap
 * @property {string} id
 * @property {string} feed
 * @property {string} link
 * @property {string} from ISO 8601
 * @property {string | null} to Null while it lasts.
 * @property {string} reason
 * @property {boolean} backfilled Whether what was missed was got later.
 */

export class FeedGaps {
  /**
   * @param {object} handlers
   * @param {() => void} handlers.changed
   * @param {(gap: import("./stream.js").Gap, isNew: boolean) => void} handlers.news News may
   *   be missing, since a moment ago or since some time.
   */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {Map<string, FeedGap>} in the order in which they were told */
    this.gaps = new Map();
  }

  /**
   * Return the gaps of a feed, newest first.
   *
   * @param {string} feed
   */
  of(feed) {
    const gaps = [...this.gaps.values()].filter((gap) => gap.feed === feed);
    return gaps.sort((a, b) => Date.parse(b.from) - Date.parse(a.from));
  }

  /**
   * Take a record that was told just now.
   *
   * @param {FeedGap} gap
   */
  take(gap) {
    this.#put(gap, true);
  }

  /**
   * Learn of the gaps that there were.
   *
   * @param {string} token Empty if none is needed.
   */
  async load(token) {
    try {
      const answer = await fetch(PATH, {
        cache: "no-store",
        headers: token === "" ? {} : { authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const { gaps } = answer.ok ? await answer.json() : { gaps: [] };
      for (const gap of gaps) {
        this.#put(gap, false);
      }
    } catch {
      // The next connection asks again.
    }
  }

  /**
   * @param {FeedGap} gap
   * @param {boolean} isNew
   */
  #put(gap, isNew) {
    const known = this.gaps.get(gap.id);
    const same = known?.to === gap.to && known.backfilled === gap.backfilled;
    // An answer may be older than what the stream has said meanwhile.
    const older = known?.to != null && gap.to === null;
    if (same || older) {
      return;
    }
    this.gaps.delete(gap.id);
    this.gaps.set(gap.id, gap);
    for (const oldest of this.gaps.keys()) {
      if (this.gaps.size <= MOST) {
        break;
      }
      this.gaps.delete(oldest);
    }
    const to = gap.to === null ? null : Date.parse(gap.to);
    if (gap.link === NEWS_LINK && !gap.backfilled && serverNow() - (to ?? Infinity) < RECENT_MS) {
      const { id, reason } = gap;
      this.handlers.news({ id, channel: "news", reason, from: Date.parse(gap.from), to }, isNew);
    }
    this.handlers.changed();
  }
}
