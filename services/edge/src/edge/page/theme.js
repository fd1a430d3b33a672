/**
 * Light or dark: as the system says, until the reader chooses.
 *
 * Loaded on its own, before the first paint, so that a dark page never flashes white.
 */

import { recall, remember } from "./storage.js";

const KEY = "theme";
const root = document.documentElement;
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

const chosen = recall(KEY);
if (chosen === "light" || chosen === "dark") {
  root.dataset.theme = chosen;
}

/**
 * Make the button switch between the two, and say what it will do.
 *
 * @param {HTMLElement} button
 */
export function startTheme(button) {
  const label = () => {
    const text = `Switch to the ${isDark() ? "light" : "dark"} theme`;
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(KEY, root.dataset.theme);
    label();
  });
  systemIsDark.addEventListener("change", label);
  label();
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches;
}
