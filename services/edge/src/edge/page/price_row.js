/**
 * One line of the watchlist: a symbol, its value, and what became of it.
 *
 * `take` only notes a frame; `render` shows the newest one. Between two pictures of the
 * screen a symbol may have had many frames, and all but the last are never drawn.
 */

import { serverNow, tellAge } from "./clock.js";
import { compare, difference, midpoint, percent, signed, thousands } from "./digits.js";
import { element, setText } from "./dom.js";
import { Sparkline } from "./sparkline.js";

const STALE_MS = 60_000;
const FLASH_MS = 700;
const ARROWS = { up: "▲", down: "▼" };
const MARKETS = { us: "US", kr: "Korea", fx: "FX", crypto: "Crypto" };
const CURRENCY =
  "AUD|BRL|CAD|CHF|CNH|CNY|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NOK|NZD" +
  "|PHP|PLN|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|USD|ZAR|XAG|XAU|XPD|XPT";
const FX = new RegExp(`^(?:${CURRENCY}){2}$`);
const CRYPTO = /^[A-Z0-9]{2,16}(?:USD|USDT|USDC|EUR|GBP|BTC|ETH)$/;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A price frame of the edge, numbers as their digits.
 *
 * @typedef {object} PriceFrame
 * @property {string} symbol
 * @property {string} timestamp Milliseconds since the epoch.
 * @property {"T" | "Q" | "B"} data_type Trade, quote, or a trade that was taken back.
 * @property {string | null} last_price
 * @property {string | null} last_size
 * @property {string | null} ask_price
 * @property {string | null} ask_size
 * @property {string | null} bid_price
 * @property {string | null} bid_size
 */

export class PriceRow {
  flash = element("span", { class: "flash", "aria-hidden": "true" });
  arrow = element("span", { class: "arrow", role: "img", "aria-label": "unchanged" });
  last = part("last");
  lastSize = part("last-size");
  kind = part("kind");
  changeBy = part("change-by");
  changeShare = part("change-share");
  change = cell("change number", two(this.changeBy, this.changeShare));
  bid = part("bid");
  bidSize = part("bid-size");
  ask = part("ask");
  askSize = part("ask-size");
  age = part("age");
  staleMark = element("span", { class: "stale-mark", "data-testid": "stale" }, "stale");
  sparkline = new Sparkline();

  /**
   * @param {string} symbol
   * @param {() => void} remove
   */
  constructor(symbol, remove) {
    this.symbol = symbol;
    /** @type {PriceFrame | null} */
    this.frame = null;
    this.fresh = false;
    /** @type {{digits: string, kind: string} | null} */
    this.shown = null;
    /** @type {{digits: string, kind: string} | null} */
    this.first = null;
    /** @type {Animation | null} */
    this.flashing = null;
    this.staleMark.hidden = true;
    setText(this.last, "–");
    setText(this.kind, "no value yet");
    this.element = this.#build(remove);
  }

  /**
   * Note a frame; true if the row was drawn since the one before.
   *
   * @param {PriceFrame} frame
   */
  take(frame) {
    const first = !this.fresh;
    this.frame = frame;
    this.fresh = true;
    return first;
  }

  /**
   * Say why there is no value, and will be none.
   *
   * @param {string} reason
   */
  refuse(reason) {
    this.element.dataset.state = "refused";
    setText(this.kind, reason);
  }

  /** A value will come, if there is one. */
  accept() {
    if (this.element.dataset.state === "refused") {
      this.element.dataset.state = "waiting";
      setText(this.kind, "no value yet");
    }
  }

  /** Show the newest frame. */
  render() {
    const frame = this.frame;
    this.fresh = false;
    if (frame === null) {
      return;
    }
    this.element.dataset.state = "known";
    writeDigits(this.bid, frame.bid_price);
    writeDigits(this.bidSize, frame.bid_size);
    writeDigits(this.ask, frame.ask_price);
    writeDigits(this.askSize, frame.ask_size);
    writeDigits(this.lastSize, frame.last_price === null ? null : frame.last_size);
    this.#renderValue(valueOf(frame), frame.data_type === "B");
    this.tick();
  }

  /** Do what comes with time: the age, and the line. */
  tick() {
    this.sparkline.draw();
    if (this.frame === null) {
      return;
    }
    const age = serverNow() - Number(this.frame.timestamp);
    const stale = age >= STALE_MS;
    setText(this.age, tellAge(age));
    if (this.staleMark.hidden === stale) {
      this.staleMark.hidden = !stale;
      this.element.dataset.stale = String(stale);
    }
  }

  /** Draw the eye to this row, which is there already. */
  pointOut() {
    this.element.scrollIntoView({ block: "nearest" });
    this.#flash("notice");
  }

  /**
   * @param {{digits: string, kind: string} | null} value
   * @param {boolean} takenBack
   */
  #renderValue(value, takenBack) {
    writeDigits(this.last, value?.digits ?? null);
    setText(this.kind, takenBack ? "trade break" : (value?.kind ?? ""));
    this.kind.title = takenBack ? "An earlier trade was taken back" : "";
    if (value === null) {
      return;
    }
    if (this.first?.kind !== value.kind) {
      // A last trade is not compared with the middle of a quote.
      this.first = value;
      this.shown = null;
    }
    const order = this.shown === null ? 0 : compare(value.digits, this.shown.digits);
    if (order !== 0) {
      this.#point(order > 0 ? "up" : "down");
    }
    this.shown = value;
    this.sparkline.add(Number(value.digits));
    this.#renderChange(value.digits);
  }

  /** @param {"up" | "down"} direction */
  #point(direction) {
    this.element.dataset.direction = direction;
    setText(this.arrow, ARROWS[direction]);
    this.arrow.setAttribute("aria-label", direction);
    this.#flash(direction);
  }

  /** @param {string} digits */
  #renderChange(digits) {
    const first = this.first?.digits ?? digits;
    const change = difference(digits, first);
    const share = percent(change, first);
    const order = compare(digits, first);
    this.change.dataset.direction = order > 0 ? "up" : order < 0 ? "down" : "flat";
    setText(this.changeBy, signed(change));
    setText(this.changeShare, share === null ? "" : `${signed(share)} %`);
  }

  /** @param {"up" | "down" | "notice"} kind */
  #flash(kind) {
    this.flash.dataset.kind = kind;
    if (calm.matches || this.flashing?.playState === "running") {
      return;
    }
    this.flashing = this.flash.animate([{ opacity: 1 }, { opacity: 0 }], {
      duration: FLASH_MS,
      easing: "ease-out",
    });
  }

  /** @param {() => void} remove */
  #build(remove) {
    const removeButton = element("button", {
      class: "icon-button remove",
      type: "button",
      "data-testid": "remove",
      "aria-label": `Remove ${this.symbol}`,
      title: `Remove ${this.symbol}`,
    });
    removeButton.addEventListener("click", remove);
    const label = element("span", { class: "symbol" }, this.symbol);
    const market = element("span", { class: "market" }, marketOf(this.symbol));
    const value = element("span", { class: "value" }, this.arrow, this.last);
    const detail = element("span", {}, this.kind, this.lastSize);
    const age = element("span", {}, this.age);
    return element(
      "tr",
      {
        role: "row",
        "data-testid": `row-${this.symbol}`,
        "data-symbol": this.symbol,
        "data-state": "waiting",
        "data-direction": "flat",
        "data-stale": "false",
      },
      cell("name", two(label, market)),
      cell("price number", this.flash, two(value, detail)),
      this.change,
      cell("quote bid-cell number", two(this.bid, this.bidSize)),
      cell("quote ask-cell number", two(this.ask, this.askSize)),
      cell("trend", this.sparkline.svg),
      cell("age-cell number", two(age, this.staleMark)),
      cell("remove-cell", removeButton),
    );
  }
}

/**
 * The value to watch: the last trade, or halfway between bid and ask where trades are
 * not told, as in foreign exchange.
 *
 * @param {PriceFrame} frame
 */
function valueOf(frame) {
  if (frame.last_price !== null) {
    return { digits: frame.last_price, kind: "" };
  }
  if (frame.bid_price !== null && frame.ask_price !== null) {
    return { digits: midpoint(frame.bid_price, frame.ask_price), kind: "mid" };
  }
  return null;
}

/** @param {string} symbol */
function marketOf(symbol) {
  if (/^[0-9][0-9A-Z]{5}$/.test(symbol)) {
    return MARKETS.kr;
  }
  if (FX.test(symbol)) {
    return MARKETS.fx;
  }
  return symbol.length >= 6 && CRYPTO.test(symbol) ? MARKETS.crypto : MARKETS.us;
}

/**
 * Show digits as they are; the gaps between thousands are spacing, not characters.
 *
 * @param {HTMLElement} target
 * @param {string | null} digits
 */
function writeDigits(target, digits) {
  const text = digits ?? "–";
  if (target.textContent === text) {
    return;
  }
  const [first, ...others] = thousands(text);
  target.replaceChildren(
    first,
    ...others.map((group) => element("span", { class: "thousands" }, group)),
  );
}

/**
 * A place for a text, which tests find by the name that style.css uses.
 *
 * @param {string} name
 */
function part(name) {
  return element("span", { class: name, "data-testid": name });
}

/**
 * @param {string} name
 * @param {...Node} children
 */
function cell(name, ...children) {
  return element("td", { role: "cell", class: name }, ...children);
}

/**
 * Two lines, one above the other.
 *
 * @param {Node} above
 * @param {Node} below
 */
function two(above, below) {
  return element("span", { class: "two" }, above, below);
}
