// When a stream that ended is opened again, and whose failure is the caller's.

import { spread, type Code, type SiglipError } from './errors.js';

const FIRST_MS = 100;
const LONGEST_MS = 3_000;
const PASSING = new Set<Code>(['UNAVAILABLE', 'CANCELLED', 'DEADLINE_EXCEEDED']);
// Of gRPC itself, when a connection breaks at the wrong moment. From the service they have a reason.
const PASSING_WITHOUT_REASON = new Set<Code>(['INTERNAL', 'UNKNOWN']);

/** Failures in a row: a stream that was of use begins a new one. */
export function failuresAfter(link: { draining: boolean; answered: boolean }, failures: number): number {
  if (link.draining) return 0;
  return link.answered ? 1 : failures + 1;
}

/** Milliseconds to wait after so many failures in a row. */
function backoffMs(failures: number): number {
  if (failures === 0) return 0;
  // Streams that were lost together should not come back together.
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
}

/** Milliseconds to wait before another stream; undefined when waiting does not cure `error`. */
export function reopenWaitMs(error: SiglipError | undefined, failures: number): number | undefined {
  const waitMs = backoffMs(failures);
  if (!error || PASSING.has(error.code)) return waitMs;
  const { reason, pushbackMs } = error;
  if (PASSING_WITHOUT_REASON.has(error.code) && !reason) return waitMs;
  if (error.code !== 'RESOURCE_EXHAUSTED' || pushbackMs === undefined) return undefined;
  return Math.max(waitMs, spread(pushbackMs));
}
