/**
 * The stream of news: newest on top, each item once, repeats folded, never without bound.
 *
 * Items come in order, those of a snapshot and those that were missed too. Where some may
 * be missing, a line stands between them.
 */

import { byId, element, setText } from "./dom.js";
import { findGap, tellGap } from "./gaps.js";
import { NewsStory } from "./news_item.js";

const MAX_STORIES = 500;
// More than the stories: repeats are remembered too, and must not come back as new.
const MAX_SEEN = 4000;
const REFRESH_MS = 20;

/** @typedef {import("./news_item.js").NewsItem} NewsItem */

export class News {
  /** @param {(code: string) => void} watch Adds a code to the watchlist. */
  constructor(watch) {
    this.actions = { watch, filter: (/** @type {string} */ code) => this.#setQuery(code) };
    /** @type {NewsStory[]} in order of arrival */
    this.stories = [];
    /** @type {Set<string>} what tells items apart; a snapshot may repeat them */
    this.seen = new Set();
    /** @type {Map<string, NewsStory>} by what a repeat says of its first item */
    this.firsts = new Map();
    this.refreshing = 0;
    this.empty = "Loading news…";
    this.list = byId("news-list");
    this.scroller = byId("news-scroll");
    this.newButton = byId("news-new");
    this.query = /** @type {HTMLInputElement} */ (byId("news-query"));
    this.type = "all";
    this.#listen();
    this.#refresh();
    setInterval(() => this.#tick(), 1000);
  }

  /**
   * Take an item.
   *
   * @param {NewsItem} item
   */
  take(item) {
    const key = keyOf(item);
    if (this.seen.has(key)) {
      return;
    }
    this.seen.add(key);
    if (this.seen.size > MAX_SEEN) {
      const [oldest] = this.seen;
      this.seen.delete(oldest);
    }
    this.#admit(item);
    this.#trim();
    this.#refreshSoon();
  }

  /** Everything that was there has come. */
  settled() {
    this.empty = "No news yet. It appears here as it comes.";
    this.#refreshSoon();
  }

  /** There will be none. */
  refused() {
    this.empty = "Your token does not allow news.";
    this.#refreshSoon();
  }

  /**
   * Draw a line: before what comes next, something may be missing.
   *
   * @param {import("./stream.js").Gap} gap
   */
  markGap(gap) {
    const { id = "" } = gap;
    const { brief, full } = tellGap(gap);
    const known = findGap(this.list, id);
    if (known !== undefined) {
      setText(known, brief);
      return;
    }
    const attributes = { class: "gap-line", "data-gap": id, "data-testid": "gap-line" };
    this.list.prepend(element("li", { ...attributes, title: full }, brief));
  }

  /** @param {NewsItem} item */
  #admit(item) {
    const first =
      item.repeat_of === null ? undefined : this.firsts.get(firstKey(item.repeat_of, item));
    if (first !== undefined) {
      first.fold(item);
      return;
    }
    const story = new NewsStory(item, this.actions);
    story.pending = this.#isReading();
    story.element.hidden = true;
    this.list.prepend(story.element);
    this.stories.push(story);
    this.firsts.set(firstKey(item.repeat_of ?? item.realkey, item), story);
  }

  #trim() {
    while (this.stories.length > MAX_STORIES) {
      const { item, element } = /** @type {NewsStory} */ (this.stories.shift());
      element.remove();
      this.firsts.delete(firstKey(item.repeat_of ?? item.realkey, item));
      while (this.list.lastElementChild?.className === "gap-line") {
        this.list.lastElementChild.remove();
      }
    }
  }

  /** Whether the reader has scrolled into the list, whichever part of the page scrolls. */
  #isReading() {
    const top = Math.max(0, this.scroller.getBoundingClientRect().top);
    return this.list.getBoundingClientRect().top < top - 24;
  }

  /** Many items may come at once; the list is gone through once for all of them. */
  #refreshSoon() {
    this.refreshing ||= setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  /** Show what matches and does not wait, and say how much that is. */
  #refresh() {
    clearTimeout(this.refreshing);
    this.refreshing = 0;
    const text = this.query.value.trim().toLowerCase();
    let shown = 0;
    let pending = 0;
    for (const story of this.stories) {
      const matches = story.matches(text, this.type);
      story.element.hidden = !matches || story.pending;
      shown += story.element.hidden ? 0 : 1;
      pending += matches && story.pending ? 1 : 0;
    }
    this.newButton.hidden = pending === 0;
    setText(this.newButton, pending === 1 ? "1 new item" : `${pending} new items`);
    const filtered = text !== "" || this.type !== "all";
    setText(byId("news-count"), tellCount(shown, this.stories.length, filtered));
    byId("news-empty").hidden = shown + pending > 0;
    byId("news-clear").hidden = !filtered;
    setText(byId("news-empty-text"), this.#tellEmpty(filtered));
  }

  /** @param {boolean} filtered */
  #tellEmpty(filtered) {
    if (filtered && this.stories.length > 0) {
      return "No news matches this filter.";
    }
    return this.empty;
  }

  #release() {
    if (this.stories.some((story) => story.pending)) {
      this.stories.forEach((story) => (story.pending = false));
      this.#refresh();
    }
  }

  #tick() {
    for (const story of this.stories) {
      if (!story.element.hidden) {
        story.tick();
      }
    }
  }

  /** @param {string} text */
  #setQuery(text) {
    this.query.value = text;
    this.#filterChanged();
  }

  #filterChanged() {
    this.#goToTop();
    this.#release();
    this.#refresh();
  }

  #goToTop() {
    if (this.#isReading()) {
      this.scroller.scrollTop = 0;
      if (this.#isReading()) {
        byId("news").scrollIntoView();
      }
    }
  }

  #listen() {
    this.query.addEventListener("input", () => this.#filterChanged());
    const form = byId("news-filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      const target = /** @type {HTMLInputElement} */ (event.target);
      if (target.name === "type") {
        this.type = target.value;
        this.#filterChanged();
      }
    });
    byId("news-clear").addEventListener("click", () => {
      const all = form.querySelector('[value="all"]');
      /** @type {HTMLInputElement} */ (all).checked = true;
      this.type = "all";
      this.#setQuery("");
      this.query.focus();
    });
    this.newButton.addEventListener("click", () => {
      this.#goToTop();
      this.#release();
      byId("news-heading").focus({ preventScroll: true });
    });
    const scrolled = () => {
      if (!this.newButton.hidden && !this.#isReading()) {
        this.#release();
      }
    };
    this.scroller.addEventListener("scroll", scrolled, { passive: true });
    addEventListener("scroll", scrolled, { passive: true });
  }
}

/**
 * The feed gives a key anew on another day, and sometimes on the same one.
 *
 * @param {NewsItem} item
 */
function keyOf(item) {
  return `${item.realkey}\n${item.published_at}\n${item.title}`;
}

/**
 * @param {string} realkey
 * @param {NewsItem} item
 */
function firstKey(realkey, item) {
  return `${realkey}\n${item.title}`;
}

/**
 * @param {number} shown
 * @param {number} all
 * @param {boolean} filtered
 */
function tellCount(shown, all, filtered) {
  if (all === 0) {
    return "";
  }
  return filtered ? `${shown} of ${all}` : `${all} ${all === 1 ? "item" : "items"}`;
}
