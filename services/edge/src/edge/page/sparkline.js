/**
 * The small line of a symbol's recent values.
 *
 * It remembers one value a second, the last one, for two minutes: a symbol that moves a
 * hundred times a second costs as much memory and drawing as a slow one.
 */

const WIDTH = 96;
const HEIGHT = 28;
const MARGIN = 3;
const MAX_POINTS = 120;
const BUCKET_MS = 1000;
const SVG = "http://www.w3.org/2000/svg";

export class Sparkline {
  constructor() {
    /** @type {{bucket: number, value: number}[]} */
    this.points = [];
    this.changed = false;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("class", "sparkline");
    this.svg.setAttribute("aria-hidden", "true");
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "area");
    this.line = document.createElementNS(SVG, "path");
    this.line.setAttribute("class", "line");
    this.dot = document.createElementNS(SVG, "circle");
    this.dot.setAttribute("r", "2");
    this.svg.append(this.area, this.line);
  }

  /**
   * Remember a value.
   *
   * @param {number} value
   */
  add(value) {
    const bucket = Math.floor(Date.now() / BUCKET_MS);
    const newest = this.points.at(-1);
    if (newest?.bucket === bucket) {
      newest.value = value;
    } else {
      this.points.push({ bucket, value });
      if (this.points.length > MAX_POINTS) {
        this.points.shift();
      }
    }
    this.changed = true;
  }

  /** Draw what was added since the last time. */
  draw() {
    if (!this.changed) {
      return;
    }
    this.changed = false;
    const values = this.points.map((point) => point.value);
    const low = Math.min(...values);
    const range = Math.max(...values) - low;
    const last = values.length - 1;
    const places = values.map((value, index) => {
      const x = last === 0 ? WIDTH - MARGIN : MARGIN + (index / last) * (WIDTH - 2 * MARGIN);
      const share = range === 0 ? 0.5 : (value - low) / range;
      const y = HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN);
      return `${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const path = `M${places.join("L")}`;
    this.line.setAttribute("d", path);
    this.area.setAttribute(
      "d",
      `${path}L${WIDTH - MARGIN} ${HEIGHT}L${places[0].split(" ")[0]} ${HEIGHT}Z`,
    );
    const [x, y] = places[last].split(" ");
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", y);
    this.svg.append(this.dot);
    this.svg.dataset.direction =
      values[last] > values[0] ? "up" : values[last] < values[0] ? "down" : "flat";
  }
}
