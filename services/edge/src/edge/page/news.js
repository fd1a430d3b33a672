/**
 * The stream of news: newest on top, each item once, repeats folded, never without bound.
 *
 * Items come one by one from the socket, and in lists that fill what was missed. Both go
 * through one memory of what was seen. A list tells where a missed item belongs: after the
 * item before it in the list, and before all that this connection has brought.
 */

import { byId, setText } from "./dom.js";
import { NewsStory } from "./news_item.js";

const MAX_STORIES = 500;
// More than the stories: repeats are remembered too, and must not come back as new.
const MAX_SEEN = 4000;

/** @typedef {import("./news_item.js").NewsItem} NewsItem */

export class News {
  /** @param {(code: string) => void} watch Adds a code to the watchlist. */
  constructor(watch) {
    this.actions = { watch, filter: (/** @type {string} */ code) => this.#setQuery(code) };
    /** @type {NewsStory[]} in order of arrival */
    this.stories = [];
    /** @type {Map<string, NewsStory | null>} by what tells two items apart */
    this.seen = new Map();
    /** @type {Map<string, NewsStory>} by what a repeat says of its first item */
    this.firsts = new Map();
    /** @type {NewsStory | null} the last one that an earlier connection brought */
    this.mark = null;
    this.filled = false;
    this.list = byId("news-list");
    this.scroller = byId("news-scroll");
    this.newButton = byId("news-new");
    this.query = /** @type {HTMLInputElement} */ (byId("news-query"));
    this.type = "all";
    this.#listen();
    this.#refresh();
    setInterval(() => this.#tick(), 1000);
  }

  /** A new connection begins: what it missed comes after what there is now. */
  begin() {
    this.mark = this.stories.at(-1) ?? null;
  }

  /**
   * Take an item that came just now.
   *
   * @param {NewsItem} item
   */
  take(item) {
    if (!this.seen.has(keyOf(item))) {
      this.#admit(item, this.stories.length);
      this.#trim();
      this.#refresh();
    }
  }

  /**
   * Take a list of the newest items, oldest first.
   *
   * @param {NewsItem[]} items
   * @returns {{added: number, overlaps: boolean}} How many were new, and whether any was
   *   known: if none was, there may be more between.
   */
  fill(items) {
    const known = items.find((item) => this.#placeOf(item) !== -1);
    const marked = this.mark === null ? 0 : this.stories.indexOf(this.mark) + 1;
    let at = known === undefined ? marked : this.#placeOf(known);
    let added = 0;
    for (const item of items) {
      if (!this.seen.has(keyOf(item))) {
        added += 1;
        at += this.#admit(item, at) ? 1 : 0;
      } else if (this.#placeOf(item) !== -1) {
        at = this.#placeOf(item) + 1;
      }
    }
    this.filled = true;
    this.#trim();
    this.#refresh();
    return { added, overlaps: added < items.length };
  }

  /**
   * Put an item in its place; false if it was folded into another.
   *
   * @param {NewsItem} item
   * @param {number} at
   */
  #admit(item, at) {
    const first = item.repeat_of === null ? undefined : this.#firstOf(item);
    if (first !== undefined) {
      first.fold(item);
      this.#remember(item, null);
      return false;
    }
    const story = new NewsStory(item, this.actions);
    story.pending = this.#isReading();
    const older = this.stories[at - 1];
    if (older === undefined) {
      this.list.append(story.element);
    } else {
      older.element.before(story.element);
    }
    this.stories.splice(at, 0, story);
    this.#remember(item, story);
    this.firsts.set(firstKey(item.repeat_of ?? item.realkey, item), story);
    return true;
  }

  /** @param {NewsItem} item */
  #firstOf(item) {
    return this.firsts.get(firstKey(item.repeat_of ?? "", item));
  }

  /** @param {NewsItem} item */
  #placeOf(item) {
    const story = this.seen.get(keyOf(item));
    return story ? this.stories.indexOf(story) : -1;
  }

  /**
   * @param {NewsItem} item
   * @param {NewsStory | null} story
   */
  #remember(item, story) {
    this.seen.set(keyOf(item), story);
    if (this.seen.size > MAX_SEEN) {
      const oldest = this.seen.keys().next().value;
      this.seen.delete(/** @type {string} */ (oldest));
    }
  }

  #trim() {
    while (this.stories.length > MAX_STORIES) {
      const story = /** @type {NewsStory} */ (this.stories.shift());
      const { item } = story;
      story.element.remove();
      this.seen.set(keyOf(item), null);
      this.firsts.delete(firstKey(item.repeat_of ?? item.realkey, item));
      if (this.mark === story) {
        this.mark = null;
      }
    }
  }

  /** Whether the reader has scrolled into the list, whichever part of the page scrolls. */
  #isReading() {
    const top = Math.max(0, this.scroller.getBoundingClientRect().top);
    return this.list.getBoundingClientRect().top < top - 24;
  }

  /** Show what matches and does not wait, and say how much that is. */
  #refresh() {
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
    return this.filled ? "No news yet. It appears here as it comes." : "Loading news…";
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
