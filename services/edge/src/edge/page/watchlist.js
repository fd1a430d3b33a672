/**
 * The symbols that the reader watches, and the requests that keep them flowing.
 *
 * The edge confirms no request: a symbol is shown at once and taken away again if an
 * error names it. A request with one illegal symbol changes nothing at all, so whenever
 * an error took one away, the others are asked for again.
 */

import { announce, byId } from "./dom.js";
import { parseKeepingDigits } from "./digits.js";
import { PriceRow } from "./price_row.js";
import { recall, remember } from "./storage.js";

const KEY = "watchlist";
const USUAL = ["AAPL", "MSFT", "NVDA", "BRK-B", "BTCUSD", "ETHUSD", "EURUSD", "005930"];
const MAX_SYMBOLS = 200;
const SYMBOLS_PER_REQUEST = 50;
// An error that names no symbol is about the one that was added just now, or about none.
const ANSWER_MS = 5000;

export class Watchlist {
  /** @param {(request: {action: string, symbols: string[]}) => boolean} send */
  constructor(send) {
    this.send = send;
    /** @type {Map<string, PriceRow>} */
    this.rows = new Map();
    /** @type {Set<PriceRow>} */
    this.undrawn = new Set();
    this.added = { symbol: "", at: 0 };
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

  /** Ask for everything that is watched, as on a new connection. */
  subscribeAll() {
    const symbols = [...this.rows.keys()];
    for (let at = 0; at < symbols.length; at += SYMBOLS_PER_REQUEST) {
      const part = symbols.slice(at, at + SYMBOLS_PER_REQUEST);
      this.send({ action: "subscribe", symbols: part });
    }
  }

  /** Ask again for a value that the edge has, so that a working connection must answer. */
  provoke() {
    const known = [...this.rows.values()].find((row) => row.frame !== null);
    return (
      known !== undefined && this.send({ action: "subscribe", symbols: [known.symbol] })
    );
  }

  /**
   * Take one text frame of the edge.
   *
   * @param {string} text
   */
  take(text) {
    const frame = parseKeepingDigits(text);
    if (frame.type === "price_update") {
      const row = this.rows.get(frame.symbol);
      if (row?.take(frame)) {
        this.#drawSoon(row);
      }
    } else if (frame.type === "error") {
      this.#refused(String(frame.message));
    }
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
    this.added = { symbol, at: Date.now() };
    this.send({ action: "subscribe", symbols: [symbol] });
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

  /** @param {string} message */
  #refused(message) {
    const named = [...this.rows.keys()].find((symbol) =>
      message.includes(JSON.stringify(symbol.slice(0, 20))),
    );
    const justAdded = Date.now() - this.added.at < ANSWER_MS ? this.added.symbol : "";
    const symbol = named ?? justAdded;
    const row = this.rows.get(symbol);
    this.added = { symbol: "", at: 0 };
    if (row === undefined || row.frame !== null) {
      this.#complain(`The edge says: ${message}.`);
      return;
    }
    this.#drop(row);
    this.subscribeAll();
    if (this.input.value === "") {
      this.input.value = symbol;
      this.input.select();
    }
    this.#complain(
      named ? `Not added: ${message}.` : `${symbol} was not added: ${message}.`,
    );
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
    this.send({ action: "unsubscribe", symbols: [row.symbol] });
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
    this.subscribeAll();
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
