/**
 * Light or dark: as the system says, until the reader chooses.
 *
 * Loaded on its own, before the first paint, so that a dark page never flashes white.
 */

const KEY = "feedmesh.theme";
const root = document.documentElement;
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

const chosen = localStorage.getItem(KEY);
if (chosen === "light" || chosen === "dark") {
  root.dataset.theme = chosen;
}

/** Make the button switch between the two, and say what it will do. */
export function startTheme(/** @type {HTMLElement} */ button) {
  const label = () => {
    const text = `Switch to the ${isDark() ? "light" : "dark"} theme`;
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(KEY, root.dataset.theme);
    label();
  });
  systemIsDark.addEventListener("change", label);
  label();
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches;
}
