/** The actor that the cases run in. */
import { Stage } from "../../harness/actor.js";

export class Inside extends Stage {}
