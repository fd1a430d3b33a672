/**
 * The symbols that the reader watches, and the requests that keep them flowing.
 *
 * A symbol is shown at once. The edge accepts or rejects each by itself: one that cannot
 * be a symbol is taken away again, one that the reader may not have says so in its row.
 */

import { announce, byId } from "./dom.js";
import { parseKeepingDigits } from "./digits.js";
import { PriceRow } from "./price_row.js";
import { recall, remember } from "./storage.js";

const KEY = "watchlist";
const USUAL = ["AAPL", "MSFT", "NVDA", "BRK-B", "BTCUSD", "ETHUSD", "EURUSD", "005930"];
const MAX_SYMBOLS = 200;
// As often as a reader can see a difference.
const RATE_HZ = 10;
const REJECTIONS = {
  not_available: "not for your token",
  too_many_symbols: "too many symbols",
};

export class Watchlist {
  /** @param {(request: Record<string, unknown>) => void} send */
  constructor(send) {
    this.send = send;
    /** @type {Map<string, PriceRow>} */
    this.rows = new Map();
    /** @type {Set<PriceRow>} */
    this.undrawn = new Set();
    this.body = byId("watchlist-rows");
    this.input = /** @type {HTMLInputElement} */ (byId("symbol"));
    this.error = byId("symbol-error");
    this.#load();
    byId("add").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.input.addEventListener("input", () => this.#complain(""));
    byId("restore").addEventListener("click", () => {
      this.#restore();
      this.input.focus();
    });
    setInterval(() => this.rows.forEach((row) => row.tick()), 1000);
  }

  /**
   * Return what to subscribe to for everything that is watched, or for *symbols*.
   *
   * @returns {import("./stream.js").Subscription}
   */
  subscription(symbols = [...this.rows.keys()]) {
    return { channel: "prices", symbols, max_rate_hz: RATE_HZ };
  }

  /**
   * Take a price update of the edge.
   *
   * @param {string} text
   */
  take(text) {
    const frame = parseKeepingDigits(text);
    const row = this.rows.get(frame.symbol);
    if (row?.take(frame)) {
      this.#drawSoon(row);
    }
  }

  /**
   * Learn which symbols are subscribed and which are not.
   *
   * @param {{accepted?: string[], rejected?: {symbol: string, code: string}[]}} answer
   */
  answer({ accepted = [], rejected = [] }) {
    accepted.forEach((symbol) => this.rows.get(symbol)?.accept());
    for (const { symbol, code } of rejected) {
      // The edge says no more than the beginning of what cannot be a symbol.
      const row = [...this.rows.values()].find((row) => row.symbol.slice(0, 20) === symbol);
      if (row !== undefined && code === "bad_symbol") {
        this.#refused(row);
      } else {
        row?.refuse(REJECTIONS[/** @type {keyof REJECTIONS} */ (code)] ?? code);
      }
    }
  }

  /** Learn that there will be no prices at all. */
  refused() {
    this.rows.forEach((row) => row.refuse(REJECTIONS.not_available));
  }

  /**
   * Watch a symbol that was chosen elsewhere on the page.
   *
   * @param {string} symbol
   */
  add(symbol) {
    const known = this.rows.get(symbol);
    if (known) {
      known.pointOut();
      announce(`${symbol} is in the watchlist already`);
      return;
    }
    if (this.rows.size >= MAX_SYMBOLS) {
      this.#complain(`The watchlist is full: ${MAX_SYMBOLS} symbols.`);
      return;
    }
    this.#insert(symbol);
    this.#save();
    this.send({ op: "subscribe", id: "prices", ...this.subscription([symbol]) });
    announce(`${symbol} was added to the watchlist`);
  }

  #submit() {
    const symbol = this.input.value.trim().toUpperCase();
    this.#complain("");
    if (symbol !== "") {
      this.input.value = "";
      this.add(symbol);
    }
  }

  /** @param {PriceRow} row */
  #refused(row) {
    this.#drop(row);
    if (this.input.value === "") {
      this.input.value = row.symbol;
      this.input.select();
    }
    this.#complain(`Not added: ${JSON.stringify(row.symbol)} is not a legal symbol.`);
  }

  /** @param {string} text */
  #complain(text) {
    this.error.textContent = text;
    if (text === "") {
      this.input.removeAttribute("aria-invalid");
    } else {
      this.input.setAttribute("aria-invalid", "true");
    }
  }

  /** @param {PriceRow} row */
  #remove(row) {
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    this.#drop(row);
    this.send({ op: "unsubscribe", channel: "prices", symbols: [row.symbol] });
    announce(`${row.symbol} was removed from the watchlist`);
    const button = next?.querySelector("button");
    (button ?? this.input).focus();
  }

  /** @param {PriceRow} row */
  #drop(row) {
    row.element.remove();
    this.rows.delete(row.symbol);
    this.undrawn.delete(row);
    this.#save();
  }

  /** @param {string} symbol */
  #insert(symbol) {
    const row = new PriceRow(symbol, () => this.#remove(row));
    this.rows.set(symbol, row);
    this.body.append(row.element);
    this.#showWhetherEmpty();
  }

  /** @param {PriceRow} row */
  #drawSoon(row) {
    if (this.undrawn.size === 0) {
      requestAnimationFrame(() => this.#draw());
    }
    this.undrawn.add(row);
  }

  #draw() {
    const rows = [...this.undrawn];
    this.undrawn.clear();
    rows.forEach((row) => row.render());
  }

  #load() {
    let symbols = USUAL;
    try {
      const kept = JSON.parse(recall(KEY) ?? "null");
      if (Array.isArray(kept)) {
        symbols = kept.filter((symbol) => typeof symbol === "string" && symbol !== "");
      }
    } catch {
      // Not what this page wrote: begin with the usual ones.
    }
    [...new Set(symbols)].slice(0, MAX_SYMBOLS).forEach((symbol) => this.#insert(symbol));
    this.#showWhetherEmpty();
  }

  #restore() {
    USUAL.forEach((symbol) => this.#insert(symbol));
    this.#save();
    this.send({ op: "subscribe", id: "prices", ...this.subscription() });
  }

  #save() {
    remember(KEY, JSON.stringify([...this.rows.keys()]));
    this.#showWhetherEmpty();
  }

  #showWhetherEmpty() {
    byId("watchlist").hidden = this.rows.size === 0;
    byId("watchlist-empty").hidden = this.rows.size > 0;
  }
}
