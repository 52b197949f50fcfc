/**
 * URLPattern by urlpattern-polyfill, which takes URLs apart with the global `URL`. Only its Web IDL looks are added here.
 */
import { URLPattern } from "urlpattern-polyfill/urlpattern";
import { defineInterface } from "./webidl";

delete (URLPattern as unknown as { compareComponent?: unknown }).compareComponent; // was proposed, and dropped
defineInterface(URLPattern as unknown as Parameters<typeof defineInterface>[0], "URLPattern");

export const globals = { URLPattern };
