/**
 * Numbers as the digits that the server sent.
 *
 * JSON.parse makes 189.450 into 189.45 and rounds what a float cannot hold. Here a number
 * stays the text that it was on the wire, and arithmetic on it is exact.
 */

// A string, or else a number: strings are matched so that digits in them are left alone.
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * Parse JSON with every number as a string of its digits.
 *
 * @param {string} text
 * @returns {any}
 */
export function parseKeepingDigits(text) {
  const quoted = text.replace(STRING_OR_NUMBER, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  );
  return JSON.parse(quoted);
}

/**
 * Return `a - b`, with as many decimals as the finer of the two.
 *
 * @param {string} a
 * @param {string} b
 */
export function difference(a, b) {
  const [x, y, scale] = aligned(a, b);
  return plain(x - y, scale);
}

/**
 * Return -1, 0 or 1 as `a` is less than, equal to or greater than `b`.
 *
 * @param {string} a
 * @param {string} b
 */
export function compare(a, b) {
  const [x, y] = aligned(a, b);
  return x < y ? -1 : x > y ? 1 : 0;
}

/**
 * Return what lies halfway, always with one decimal more, so that the digits stay in
 * their places while the value moves.
 *
 * @param {string} a
 * @param {string} b
 */
export function midpoint(a, b) {
  const [x, y, scale] = aligned(a, b);
  return plain((x + y) * 5n, scale + 1);
}

/**
 * Return `part` in per cent of `whole` with two decimals, or null where that is nothing.
 *
 * @param {string} part
 * @param {string} whole
 */
export function percent(part, whole) {
  const [x, y] = aligned(part, whole);
  if (y === 0n) {
    return null;
  }
  const tenThousandths = (2n * 10000n * x + (x < 0n ? -y : y)) / (2n * y);
  return plain(tenThousandths, 2);
}

/**
 * Write a plus or a true minus sign before digits; none before zero.
 *
 * @param {string} digits
 */
export function signed(digits) {
  if (!/[1-9]/.test(digits)) {
    return digits;
  }
  return digits.startsWith("-") ? `\u2212${digits.slice(1)}` : `+${digits}`;
}

/**
 * Split digits where a reader wants a gap: before each three, from five whole ones on.
 *
 * @param {string} digits
 * @returns {string[]}
 */
export function thousands(digits) {
  const whole = /^-?\d{5,}/.exec(digits)?.[0];
  return whole ? digits.split(/(?<=^-?\d+)(?=(?:\d{3})+(?:\.|e|E|$))/) : [digits];
}

/**
 * @param {string} a
 * @param {string} b
 * @returns {[bigint, bigint, number]}
 */
function aligned(a, b) {
  const [x, xScale] = scaled(a);
  const [y, yScale] = scaled(b);
  const scale = Math.max(xScale, yScale);
  return [x * tenTo(scale - xScale), y * tenTo(scale - yScale), scale];
}

/**
 * @param {string} digits
 * @returns {[bigint, number]}
 */
function scaled(digits) {
  const [mantissa, exponent = "0"] = digits.toLowerCase().split("e");
  const [whole, fraction = ""] = mantissa.split(".");
  const scale = fraction.length - Number(exponent);
  const units = BigInt(whole + fraction);
  return scale < 0 ? [units * tenTo(-scale), 0] : [units, scale];
}

/** @param {number} power */
function tenTo(power) {
  return 10n ** BigInt(power);
}

/**
 * @param {bigint} units
 * @param {number} scale
 */
function plain(units, scale) {
  const sign = units < 0n ? "-" : "";
  const text = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const whole = text.slice(0, text.length - scale);
  return scale === 0 ? sign + whole : `${sign}${whole}.${text.slice(-scale)}`;
}
