/**
 * The entry of the preload script: evaluates every file in order and installs what each exports as globals. Evaluated once, while the image is
 * made; nothing here runs in a live isolate. (`host.ts`, evaluated first, takes and deletes `__host`.)
 */
import "./host";
import "./error_stack";
import { rename } from "./webidl";
import * as consoleApi from "./console";
import * as eventsApi from "./events";
import * as abortApi from "./abort";
import * as timersApi from "./timers";
import * as reportApi from "./report";
import * as cloneApi from "./clone";
import * as messageChannelApi from "./message_channel";
import * as performanceApi from "./performance";
import * as navigatorApi from "./navigator";
import * as intlApi from "./intl";
import * as streamsApi from "./streams";
import * as encodingApi from "./encoding";
import * as compressionApi from "./compression";
import * as cryptoApi from "./crypto";
import * as nodeApi from "./node";
import * as workersApi from "./workers";
import * as emailApi from "./email";
import * as urlApi from "./url";
import * as urlPatternApi from "./url_pattern";
import * as headersApi from "./headers";
import * as blobApi from "./blob";
import * as formDataApi from "./form_data";
import * as bodyApi from "./body";
import * as requestApi from "./request";
import * as responseApi from "./response";
import * as websocketApi from "./websocket";
import * as fetchApi from "./fetch";
import * as eventSourceApi from "./event_source";
import * as dispatchApi from "./dispatch";
import * as webassemblyApi from "./webassembly";

/** A file's `globals`: name → value. A property given by a getter stays one (made on first use). */
type Globals = Record<string, unknown>;

// One line per file that has globals, in order of evaluation.
const all: { globals: Globals }[] = [
  consoleApi,
  eventsApi,
  abortApi,
  timersApi,
  reportApi,
  cloneApi,
  messageChannelApi,
  performanceApi,
  navigatorApi,
  intlApi,
  streamsApi,
  encodingApi,
  compressionApi,
  cryptoApi,
  nodeApi,
  urlApi,
  urlPatternApi,
  headersApi,
  blobApi,
  formDataApi,
  bodyApi,
  requestApi,
  responseApi,
  websocketApi,
  fetchApi,
  eventSourceApi,
  dispatchApi,
  webassemblyApi,
];

function install(globals: Globals): void {
  for (const name of Object.keys(globals)) {
    const d = Object.getOwnPropertyDescriptor(globals, name)!;
    if (typeof d.value === "function") rename(d.value, name);
    Object.defineProperty(globalThis, name, { ...d, enumerable: false, configurable: true });
  }
}

for (const file of all) install(file.globals);
nodeApi.install();
workersApi.install();
emailApi.install();
