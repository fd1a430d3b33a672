/**
 * The page as a whole: which part hears what, and what follows from it.
 *
 * The parts know nothing of each other. Everything that must happen when a connection
 * is there again happens here, in the same way as on load.
 */

import { ConnectionsView } from "./connection.js";
import { byId } from "./dom.js";
import { FeedsPanel } from "./feeds.js";
import { News } from "./news.js";
import { ReconnectingSocket } from "./socket.js";
import { StatusPoll } from "./status.js";
import { startTheme } from "./theme.js";
import { Watchlist } from "./watchlist.js";
import { startWatchdog } from "./watchdog.js";

const NEWS_ITEMS = 100;
const MOST_NEWS_ITEMS = 500;
const RETRY_FILL_MS = 3000;
const ANSWER_MS = 10_000;

const watchlist = new Watchlist((request) => prices.send(request));
const news = new News((code) => watchlist.add(code));
const feeds = new FeedsPanel();

const prices = new ReconnectingSocket("api/v2/realtime/ws/prices", {
  opened: () => watchlist.subscribeAll(),
  frame: (text) => watchlist.take(text),
  changed: () => connections.show(),
});

const newsSocket = new ReconnectingSocket(
  "ws/news",
  {
    opened: () => {
      news.begin();
      void fillNews();
    },
    frame: (text) => {
      const item = JSON.parse(text);
      if (item.type === "news") {
        news.take(item);
      }
    },
    changed: () => connections.show(),
  },
  { liveOnFrame: true },
);

let statusAnswered = false;
const status = new StatusPoll("api/v2/realtime/status", {
  answered: (answer) => {
    statusAnswered = true;
    feeds.show(answer);
    connections.show();
  },
  failed: (reason) => {
    feeds.fail(reason);
    connections.show();
  },
});

const connections = new ConnectionsView(
  {
    "connection-prices": { name: "Prices", read: () => stateOf(prices) },
    "connection-news": { name: "News", read: () => stateOf(newsSocket) },
    "connection-status": { name: "Status", read: stateOfStatus },
  },
  reconnectAll,
);

/**
 * @param {ReconnectingSocket} socket
 * @returns {{state: import("./connection.js").ConnectionState, retryAt: number}}
 */
function stateOf({ phase, retryAt }) {
  const offline = phase !== "live" && !navigator.onLine;
  return { state: offline ? "offline" : phase, retryAt };
}

/** @returns {{state: import("./connection.js").ConnectionState, retryAt: number}} */
function stateOfStatus() {
  if (status.failures > 0) {
    return { state: navigator.onLine ? "reconnecting" : "offline", retryAt: 0 };
  }
  return { state: statusAnswered ? "live" : "connecting", retryAt: 0 };
}

function reconnectAll() {
  for (const socket of [prices, newsSocket]) {
    if (socket.phase === "reconnecting") {
      socket.connect();
    }
  }
  void status.run();
}

/**
 * Fill in missed news, and further back if there may be a gap; tell how many.
 *
 * @returns {Promise<number>}
 */
async function fillNews(count = NEWS_ITEMS) {
  const connection = newsSocket.socket;
  try {
    const answer = await fetch(`api/v3/news?limit=${count}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (!answer.ok) {
      throw new Error(`the edge answered ${answer.status}`);
    }
    const { items } = await answer.json();
    const isFirst = !news.filled;
    const { added, overlaps } = news.fill(items);
    if (!isFirst && !overlaps && items.length >= count && count < MOST_NEWS_ITEMS) {
      return added + (await fillNews(MOST_NEWS_ITEMS));
    }
    return added;
  } catch {
    // The status label tells that the edge does not answer; a new connection fills anew.
    setTimeout(() => {
      if (newsSocket.socket === connection && newsSocket.phase === "live") {
        void fillNews(count);
      }
    }, RETRY_FILL_MS);
    return 0;
  }
}

/** @param {KeyboardEvent} event */
function shortcut(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches('input:not([type="radio"])');
  if (event.key === "Escape" && typing) {
    target.blur();
  }
  const id = { "/": "symbol", n: "news-query" }[event.key];
  if (id && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId(id).focus();
  }
}

startTheme(byId("theme"));
addEventListener("keydown", shortcut);
addEventListener("online", reconnectAll);
addEventListener("offline", () => connections.show());
document.addEventListener("visibilitychange", () => {
  // Timers of a hidden page run late: a reader who comes back does not wait for them.
  if (!document.hidden) {
    reconnectAll();
  }
});
connections.show();
prices.connect();
newsSocket.connect();
void status.run();
startWatchdog({
  prices,
  news: newsSocket,
  status,
  provoke: () => watchlist.provoke(),
  fill: () => fillNews(),
});
