/**
 * Finds connections that look open and are dead.
 *
 * A browser tells a page nothing of a peer that vanished without a word, and a page cannot
 * ping. So silence is put to the test with what the edge must answer:
 *
 * - prices: asking again for a known symbol sends its value again, at once;
 * - news: the list of the newest items must hold nothing that the socket did not bring;
 * - while not even the status is answered, a silent connection counts as dead.
 */

const EVERY_MS = 5000;
const PRICES_QUIET_MS = 20_000;
const NEWS_QUIET_MS = 60_000;
const ANSWER_MS = 5000;
const FAILED_POLLS = 3;

/** @typedef {import("./socket.js").ReconnectingSocket} ReconnectingSocket */

/**
 * Watch for ever.
 *
 * @param {object} watched
 * @param {ReconnectingSocket} watched.prices
 * @param {ReconnectingSocket} watched.news
 * @param {import("./status.js").StatusPoll} watched.status
 * @param {() => boolean} watched.provoke Ask for a price that must come; false if none.
 * @param {() => Promise<number>} watched.fill Fill in news; tells how many were missing.
 */
export function startWatchdog({ prices, news, status, provoke, fill }) {
  let newsTestedAt = 0;
  setInterval(async () => {
    if (status.failures >= FAILED_POLLS) {
      [prices, news].filter((socket) => socket.quietMs > EVERY_MS).forEach((socket) => socket.connect());
      return;
    }
    if (prices.quietMs > PRICES_QUIET_MS && provoke()) {
      setTimeout(() => prices.quietMs > PRICES_QUIET_MS && prices.connect(), ANSWER_MS);
    }
    const newsIsQuiet = Math.min(news.quietMs, Date.now() - newsTestedAt) > NEWS_QUIET_MS;
    if (newsIsQuiet) {
      newsTestedAt = Date.now();
      if ((await fill()) > 0 && news.quietMs > NEWS_QUIET_MS) {
        news.connect();
      }
    }
  }, EVERY_MS);
}
