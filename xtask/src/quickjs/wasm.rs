//! Patches of the engine for buffers of WebAssembly memories: their bytes belong to nobody in the heap.

pub(super) const WASM: &[super::Patch] = &[super::Patch {
    why: "a buffer over the memory of a WebAssembly instance is detached by that alone",
    find: "    abuf = JS_GetOpaque2(ctx, this_val, JS_CLASS_ARRAY_BUFFER);\n    if (!abuf)\n        return JS_EXCEPTION;\n    if (abuf->shared)\n        return JS_ThrowTypeError(ctx, \"cannot transfer a SharedArrayBuffer\");",
    replace: "    abuf = JS_GetOpaque2(ctx, this_val, JS_CLASS_ARRAY_BUFFER);\n    if (!abuf)\n        return JS_EXCEPTION;\n    if (abuf->realloc_func == skep_wasm_buffer)\n        return JS_ThrowTypeError(ctx, \"Cannot perform ArrayBuffer.prototype.transfer on a WebAssembly.Memory\");\n    if (abuf->shared)\n        return JS_ThrowTypeError(ctx, \"cannot transfer a SharedArrayBuffer\");",
    count: 1,
}];
