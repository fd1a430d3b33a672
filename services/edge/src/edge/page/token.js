/**
 * The reader's token, where the edge asks for one.
 *
 * It comes from the field, or from `#token=` in the address: a browser sends that part to
 * nobody. From there it is taken out at once, so that it stays in no history. It is kept
 * while this tab is open.
 */

import { byId } from "./dom.js";
import { forgetInTab, recallInTab, rememberInTab } from "./storage.js";

const KEY = "token";

export class TokenForm {
  /** @param {(token: string) => void} use */
  constructor(use) {
    this.use = use;
    this.form = byId("token-form");
    this.input = /** @type {HTMLInputElement} */ (byId("token"));
    this.error = byId("token-error");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.input.value.trim();
      if (token !== "") {
        this.input.value = "";
        this.#take(token);
      }
    });
    addEventListener("hashchange", () => {
      const token = this.#fromAddress();
      if (token !== "") {
        this.#take(token);
      }
    });
  }

  /** Return the token that is there already; empty if there is none. */
  initial() {
    const given = this.#fromAddress();
    if (given !== "") {
      rememberInTab(KEY, given);
    }
    return given || (recallInTab(KEY) ?? "");
  }

  /**
   * Ask for a token, or stop asking.
   *
   * @param {boolean} asked
   * @param {boolean} refused Whether the last one did not do.
   */
  show(asked, refused) {
    if (asked === !this.form.hidden) {
      return;
    }
    this.form.hidden = !asked;
    if (asked) {
      forgetInTab(KEY);
      this.error.textContent = refused ? "The token was not accepted, or has expired." : "";
      this.input.focus();
    }
  }

  /** @param {string} token */
  #take(token) {
    rememberInTab(KEY, token);
    this.use(token);
  }

  #fromAddress() {
    const fields = new URLSearchParams(location.hash.slice(1));
    const token = fields.get("token") ?? "";
    if (token !== "") {
      history.replaceState(null, "", location.pathname + location.search);
    }
    return token;
  }
}
