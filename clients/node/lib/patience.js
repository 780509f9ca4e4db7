// When a stream that ended is opened again, and whose failure is the caller's.

import { spread } from './errors.js';

const FIRST_MS = 100;
const LONGEST_MS = 3_000;
const PASSING = new Set(['UNAVAILABLE', 'CANCELLED', 'DEADLINE_EXCEEDED']);
// Of gRPC itself, when a connection breaks at the wrong moment. From the service they have a reason.
const PASSING_WITHOUT_REASON = new Set(['INTERNAL', 'UNKNOWN']);

/** Failures in a row: a stream that was of use begins a new one. */
export function failuresAfter(link, failures) {
  if (link.draining) return 0;
  return link.answered ? 1 : failures + 1;
}

/** Milliseconds to wait after so many failures in a row. */
function backoffMs(failures) {
  if (failures === 0) return 0;
  // Streams that were lost together should not come back together.
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
}

/** Milliseconds to wait before another stream; null when waiting does not cure `error`. */
export function reopenWaitMs(error, failures) {
  const waitMs = backoffMs(failures);
  if (!error || PASSING.has(error.code)) return waitMs;
  if (PASSING_WITHOUT_REASON.has(error.code) && !error.reason) return waitMs;
  if (error.code !== 'RESOURCE_EXHAUSTED' || error.pushbackMs === null) return null;
  return Math.max(waitMs, spread(error.pushbackMs));
}
