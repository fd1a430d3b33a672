/**
 * The page as a whole: which part hears what, and what follows from it.
 *
 * The parts know nothing of each other. What must happen when the connection is there
 * again is asked for by the stream, in the same way as on load.
 */

import { ConnectionView } from "./connection.js";
import { byId } from "./dom.js";
import { FeedGaps } from "./feed_gaps.js";
import { FeedsPanel } from "./feeds.js";
import { GapNotes } from "./gaps.js";
import { News } from "./news.js";
import { Stream } from "./stream.js";
import { startTheme } from "./theme.js";
import { TokenForm } from "./token.js";
import { Watchlist } from "./watchlist.js";

// A feed is told when its state changes; how old its data is, only when it is asked for.
const STATUS_MS = 5000;

const watchlist = new Watchlist((request) => stream.send(request));
const news = new News((code) => watchlist.add(code));
const feedGaps = new FeedGaps({
  changed: () => feeds.render(),
  news: (gap, isNew) => {
    gaps.news.put(gap);
    if (isNew) {
      news.markGap(gap);
    }
  },
});
const feeds = new FeedsPanel(feedGaps);
const gaps = { prices: new GapNotes(byId("price-gaps")), news: new GapNotes(byId("news-gaps")) };
const tokens = new TokenForm((token) => stream.useToken(token));

const stream = new Stream("api/v3/stream", {
  wanted: () => [
    ...(watchlist.rows.size > 0 ? [watchlist.subscription()] : []),
    { channel: "news", snapshot: true },
    { channel: "status" },
  ],
  message: hear,
  gap: (gap) => {
    gaps[gap.channel].put(gap);
    if (gap.channel === "news") {
      news.markGap(gap);
    }
  },
  changed: show,
});
const connection = new ConnectionView(stream);
let statusIsTold = false;

/**
 * @param {import("./stream.js").Message} message
 * @param {string} text
 */
function hear(message, text) {
  switch (message.type) {
    case "price_update":
      watchlist.take(text);
      break;
    case "news":
      news.take(/** @type {any} */ (message));
      break;
    case "status":
      feeds.take(message);
      break;
    case "feed_gap":
      feedGaps.take(/** @type {any} */ (message));
      break;
    case "ack":
      watchlist.answer(message);
      if (message.channel === "status") {
        feeds.heard();
        if (!statusIsTold) {
          statusIsTold = true;
          void feedGaps.load(stream.token);
        }
      }
      break;
    case "snapshot_end":
      if (message.channel === "news") {
        news.settled();
      }
      break;
    case "error":
      refuse(message);
      break;
  }
}

/** @param {import("./stream.js").Message} error */
function refuse({ id, code, message }) {
  if (code !== "not_available") {
    console.warn(`the edge refused a request: ${message}`);
  } else if (id === "prices") {
    watchlist.refused();
  } else if (id === "news") {
    news.refused();
  } else if (id === "status") {
    feeds.fail("your token does not allow it");
  }
}

function show() {
  statusIsTold &&= stream.phase === "live";
  connection.show();
  tokens.show(stream.phase === "token", stream.tokenRefused);
  if (stream.phase === "reconnecting" || stream.phase === "stopped") {
    feeds.fail("not connected");
  }
}

function reconnect() {
  if (stream.phase === "reconnecting" && stream.comeBackAt <= Date.now()) {
    stream.connect();
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
addEventListener("online", reconnect);
addEventListener("offline", () => connection.show());
document.addEventListener("visibilitychange", () => {
  // Timers of a hidden page run late: a reader who comes back does not wait for them.
  if (!document.hidden) {
    reconnect();
  }
});
setInterval(() => {
  if (statusIsTold && !document.hidden) {
    stream.send({ op: "subscribe", id: "status", channel: "status" });
  }
}, STATUS_MS);
connection.show();
stream.useToken(tokens.initial());
