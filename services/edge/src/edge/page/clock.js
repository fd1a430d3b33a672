/**
 * What time it is for the server, and how times are told to the reader.
 *
 * Ages are differences to times that the server wrote, so a browser whose clock is wrong
 * would show wrong ages. The first message and each heartbeat tell the server's clock.
 */

// The message took its time; less is not worth mending.
const TRUSTED_DIFFERENCE_MS = 1000;

const SEOUL = new Intl.DateTimeFormat("sv-SE", {
  timeZone: "Asia/Seoul",
  dateStyle: "short",
  timeStyle: "medium",
});

let offsetMs = 0;

/**
 * Learn the server's clock from a time that it wrote just now.
 *
 * @param {string} iso
 */
export function learnServerTime(iso) {
  const difference = Date.parse(iso) - Date.now();
  if (!Number.isNaN(difference)) {
    offsetMs = Math.abs(difference) > TRUSTED_DIFFERENCE_MS ? difference : 0;
  }
}

/** Return the server's time in milliseconds since the epoch. */
export function serverNow() {
  return Date.now() + offsetMs;
}

/**
 * Tell a length of time in its largest unit: "2 s", "5 min", "3 h", "12 d".
 *
 * @param {number} milliseconds
 */
export function tellAge(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) {
    return `${seconds} s`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min`;
  }
  if (seconds < 2 * 86400) {
    return `${Math.floor(seconds / 3600)} h`;
  }
  return `${Math.floor(seconds / 86400)} d`;
}

/**
 * Tell how long ago an ISO time was; null where it is not a time.
 *
 * @param {string | null | undefined} iso
 */
export function tellSince(iso) {
  const time = Date.parse(iso ?? "");
  return Number.isNaN(time) ? null : tellAge(serverNow() - time);
}

/**
 * Return day and time in Seoul, "2023-06-14" and "09:52:17".
 *
 * @param {number} time milliseconds since the epoch
 */
export function inSeoul(time) {
  const [day, clock] = SEOUL.format(time).split(" ");
  return { day, clock };
}

/**
 * Tell a stretch of time in Seoul: "between 10:01 and 10:03 KST", to the second where that
 * is needed to tell the two apart, with the day where that is not today.
 *
 * @param {number} from milliseconds since the epoch
 * @param {number | null} to null while it lasts
 */
export function tellSpan(from, to) {
  const start = inSeoul(from);
  const end = to === null ? null : inSeoul(to);
  const fine = end?.day === start.day && end.clock.slice(0, 5) === start.clock.slice(0, 5);
  const today = inSeoul(serverNow()).day;
  const tell = (/** @type {{day: string, clock: string}} */ { day, clock }) =>
    `${day === today ? "" : `${day} `}${fine ? clock : clock.slice(0, 5)}`;
  if (end === null) {
    return `since ${tell(start)} KST`;
  }
  return tell(start) === tell(end)
    ? `around ${tell(end)} KST`
    : `between ${tell(start)} and ${tell(end)} KST`;
}
