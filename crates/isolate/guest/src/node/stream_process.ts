/** What npm readable-stream means by `process`: bundled in its place (see build.mjs), so that it does not depend on the whole of ours. */
export function nextTick(f: (...args: any[]) => void, ...args: any[]): void {
  queueMicrotask(() => f(...args));
}

export const env = {};
export const stdout = undefined;
export const stderr = undefined;
