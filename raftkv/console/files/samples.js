// What the node has counted, sample by sample: told by the stream of the page, kept for the last minutes.
export const EVERY_S = 2;
export const KEPT = 150;

export const samples = [];
const listeners = new Set();

/** One that was told. A node that has started again counts from nothing: what was before says nothing more. */
export function counted(traffic) {
  if (traffic.requests < samples.at(-1)?.requests) samples.length = 0;
  samples.push(traffic);
  if (samples.length > KEPT) samples.shift();
  listeners.forEach((listener) => listener());
}

/** Another node tells from now on. */
export function forget() {
  samples.length = 0;
}

export function onSample(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
