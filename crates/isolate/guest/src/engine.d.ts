/** What the engine provides natively beyond ECMAScript 2024; everything else a worker sees is made in this folder. */

declare class DOMException extends Error {
  constructor(message?: string, name?: string);
  readonly code: number;
}

interface ErrorConstructor {
  isError(value: unknown): value is Error;
  captureStackTrace(target: object, constructor?: Function): void;
  stackTraceLimit: number;
}

interface SymbolConstructor {
  readonly dispose: unique symbol;
  readonly asyncDispose: unique symbol;
}

declare function atob(data: string): string;
declare function btoa(data: string): string;
declare function queueMicrotask(callback: () => void): void;
declare const SuppressedError: { readonly name: string; readonly prototype: Error };
