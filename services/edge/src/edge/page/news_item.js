/**
 * One item of the news stream with the repeats that were folded into it.
 *
 * Everything an item says comes from upstream and is shown as text.
 */

import { inSeoul, serverNow, tellAge } from "./clock.js";
import { element, setText } from "./dom.js";

const HANGUL = /\p{Script=Hangul}/u;
const STOCKS_AT_FIRST = 5;
const MAX_REPEATS = 50;

/**
 * An item as the edge sends it.
 *
 * @typedef {object} NewsItem
 * @property {string} realkey
 * @property {string} title
 * @property {string | null} provider
 * @property {"article" | "disclosure"} news_type
 * @property {{code: string, name: string | null}[]} stocks
 * @property {string} published_at
 * @property {string | null} repeat_of
 *
 * @typedef {object} NewsActions
 * @property {(code: string) => void} filter
 * @property {(code: string) => void} watch
 */

export class NewsStory {
  age = element("span", { class: "ago", "data-testid": "news-age" });
  meta = element("div", { class: "meta" });
  repeatList = element("ol", {
    class: "repeats",
    "data-testid": "news-repeat-list",
    "aria-label": "Repeats of this item",
  });
  repeatButton = element("button", {
    class: "repeat-button",
    type: "button",
    "data-testid": "news-repeats",
    "aria-expanded": "false",
  });

  /**
   * @param {NewsItem} item
   * @param {NewsActions} actions
   */
  constructor(item, actions) {
    this.item = item;
    this.actions = actions;
    this.publishedAt = Date.parse(item.published_at);
    this.repeats = 0;
    /** Whether it waits until the reader comes back to the top. */
    this.pending = false;
    const words = item.stocks.flatMap(({ code, name }) => [code, name ?? ""]);
    this.searchText = [...words, item.title].join("\n").toLowerCase();
    this.element = this.#build();
    this.tick();
  }

  /**
   * Whether it is of this type and has the text in a code, a name or the title.
   *
   * @param {string} text in lower case
   * @param {string} type
   */
  matches(text, type) {
    return (type === "all" || type === this.item.news_type) && this.searchText.includes(text);
  }

  /** Tell the age anew. */
  tick() {
    const age = serverNow() - this.publishedAt;
    setText(this.age, Number.isNaN(age) ? "" : `${tellAge(age)} ago`);
  }

  /**
   * Fold another item with the same title into this one.
   *
   * @param {NewsItem} item
   */
  fold(item) {
    this.repeats += 1;
    this.repeatList.prepend(repeatLine(item));
    if (this.repeatList.childElementCount > MAX_REPEATS) {
      this.repeatList.lastElementChild?.remove();
    }
    if (this.repeats === 1) {
      this.meta.append(this.repeatButton);
    }
    setText(this.repeatButton, this.repeats === 1 ? "1 repeat" : `${this.repeats} repeats`);
  }

  #build() {
    const { item } = this;
    this.repeatList.hidden = true;
    this.repeatButton.addEventListener("click", () => {
      this.repeatList.hidden = !this.repeatList.hidden;
      this.repeatButton.setAttribute("aria-expanded", String(!this.repeatList.hidden));
    });
    const title = element("p", { class: "title", "data-testid": "news-title" }, item.title);
    markLanguage(title, item.title);
    if (item.news_type === "disclosure") {
      const badge = { class: "badge", "data-testid": "news-badge" };
      this.meta.append(element("span", badge, "Disclosure"));
    }
    this.meta.append(providerLabel(item), ...this.#stocks());
    return element(
      "li",
      {
        class: "story",
        "data-testid": "news-item",
        "data-realkey": item.realkey,
        "data-type": item.news_type,
      },
      element("div", { class: "when" }, ...timeLabels(item), this.age),
      element("div", { class: "what" }, title, this.meta, this.repeatList),
    );
  }

  #stocks() {
    const all = this.item.stocks.map((stock) => this.#stock(stock));
    const rest = all.slice(STOCKS_AT_FIRST);
    if (rest.length < 2) {
      return all;
    }
    const more = element(
      "button",
      { class: "repeat-button", type: "button", "data-testid": "news-more-stocks" },
      `${rest.length} more`,
    );
    more.addEventListener("click", () => {
      more.replaceWith(...rest);
      rest[0].querySelector("button")?.focus();
    });
    return [...all.slice(0, STOCKS_AT_FIRST), more];
  }

  /** @param {{code: string, name: string | null}} stock */
  #stock({ code, name }) {
    const called = name === null ? code : `${name} ${code}`;
    const label = element("span", {}, name ?? "");
    markLanguage(label, name ?? "");
    const filter = element(
      "button",
      {
        class: "stock-filter",
        type: "button",
        "data-testid": "news-stock",
        "data-code": code,
        "aria-label": `Show only news on ${called}`,
        title: `Show only news on ${called}`,
      },
      ...(name === null ? [] : [label]),
      element("span", { class: "code" }, code),
    );
    filter.addEventListener("click", () => this.actions.filter(code));
    const watch = element(
      "button",
      {
        class: "stock-watch",
        type: "button",
        "data-testid": "news-watch",
        "data-code": code,
        "aria-label": `Add ${called} to the watchlist`,
        title: `Add ${called} to the watchlist`,
      },
      "+",
    );
    watch.addEventListener("click", () => this.actions.watch(code));
    return element("span", { class: "stock" }, filter, watch);
  }
}

/** @param {NewsItem} item */
function repeatLine(item) {
  const when = element("span", { class: "when" }, ...timeLabels(item));
  const line = element("li", { "data-testid": "news-repeat" }, when, providerLabel(item));
  return line;
}

/** @param {NewsItem} item */
function providerLabel(item) {
  const name = item.provider ?? "provider unknown";
  const label = element("span", { class: "provider", "data-testid": "news-provider" }, name);
  markLanguage(label, name);
  return label;
}

/**
 * The time in Seoul, with the day where that is not today.
 *
 * @param {NewsItem} item
 */
function timeLabels(item) {
  const time = Date.parse(item.published_at);
  if (Number.isNaN(time)) {
    return [element("span", { class: "clock" }, "time unknown")];
  }
  const { day, clock } = inSeoul(time);
  const attributes = { class: "clock", datetime: item.published_at, "data-testid": "news-time" };
  const zone = element("abbr", { title: "Korea Standard Time, UTC+9" }, "KST");
  const label = element("time", attributes, clock, " ", zone);
  const today = inSeoul(serverNow()).day;
  return day === today ? [label] : [element("span", { class: "day" }, day), label];
}

/**
 * @param {HTMLElement} target
 * @param {string} text
 */
function markLanguage(target, text) {
  if (HANGUL.test(text)) {
    target.lang = "ko";
  }
}
