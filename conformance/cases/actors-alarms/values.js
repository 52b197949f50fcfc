/** `setAlarm`, `getAlarm` and `deleteAlarm`: what they take and give. */
import { inside } from "../../harness/actor.js";

const later = 4_000_000_000_000;

export const cases = inside("values", {
  "none": [(t) => t.storage.getAlarm(), null],
  "a number": [async (t) => { await t.storage.setAlarm(later); return t.storage.getAlarm(); }, later],
  "a date": [async (t) => { await t.storage.setAlarm(new Date(later)); return t.storage.getAlarm(); }, later],
  "a fraction": [async (t) => { await t.storage.setAlarm(later + 0.7); return t.storage.getAlarm(); }],
  "bad times": [async (t) => { const out = []; for (const x of [NaN, Infinity, -1, 0, "x", String(later), null, undefined, {}, new Date(NaN), true, 9e15]) { out.push(await t.said(async () => { await t.storage.setAlarm(x); return (await t.storage.getAlarm()) > 0; })); await t.storage.deleteAlarm(); } return out; }],
  "results": [async (t) => [await t.storage.setAlarm(later), await t.storage.deleteAlarm(), await t.storage.deleteAlarm(), await t.storage.getAlarm()]],
  "seen at once": [async (t) => { t.storage.setAlarm(later); const a = t.storage.getAlarm(); t.storage.deleteAlarm(); return [await a, await t.storage.getAlarm()]; }, [later, null]],
  "options": [async (t) => [await t.said(() => t.storage.setAlarm(later, { allowConcurrency: true, allowUnconfirmed: true })), await t.said(() => t.storage.getAlarm({ allowConcurrency: true })), await t.said(() => t.storage.deleteAlarm({ allowUnconfirmed: true }))]],
  "no keys in sight": [async (t) => { await t.storage.setAlarm(later); return [...(await t.storage.list())].length; }, 0],
});
