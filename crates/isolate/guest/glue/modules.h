// Modules of a worker: specifier resolution, sources from the host, and built-in modules registered by the bundle.
//
// Only JavaScript sources are compiled here. Every other kind (text, json, data, wasm, cjs) is turned into an exports
// object by the bundle's `onModule` hook, and becomes a synthetic module with those exports.

// Resolves `.` and `..` segments of `specifier` against the folder of `base`; anything else names a module verbatim.
static char *module_normalize(JSContext *ctx, const char *base, const char *specifier, void *opaque)
{
    if (specifier[0] != '.')
        return js_strdup(ctx, specifier);
    size_t base_len = 0;
    for (size_t i = 0; base[i]; i++)
        if (base[i] == '/')
            base_len = i;
    char *path = js_malloc(ctx, base_len + strlen(specifier) + 2);
    if (!path)
        return NULL;
    memcpy(path, base, base_len);
    size_t len = base_len;
    while (*specifier) {
        size_t n = strcspn(specifier, "/");
        if (n == 2 && specifier[0] == '.' && specifier[1] == '.') {
            while (len > 0 && path[--len] != '/') {
            }
        } else if (n > 0 && !(n == 1 && specifier[0] == '.')) {
            if (len > 0)
                path[len++] = '/';
            memcpy(path + len, specifier, n);
            len += n;
        }
        specifier += n + (specifier[n] == '/');
    }
    path[len] = 0;
    return path;
}

static int module_set_exports(JSContext *ctx, JSModuleDef *m)
{
    JSAtom name = JS_GetModuleName(ctx, m);
    JSValue exports = JS_GetProperty(ctx, builtin_modules, name);
    JS_FreeAtom(ctx, name);
    JSPropertyEnum *keys = NULL;
    uint32_t n = 0;
    int r = JS_IsObject(exports) ? JS_GetOwnPropertyNames(ctx, &keys, &n, exports, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY) : -1;
    for (uint32_t i = 0; i < n && !r; i++) {
        const char *key = JS_AtomToCString(ctx, keys[i].atom);
        JSValue v = JS_GetProperty(ctx, exports, keys[i].atom);
        if (!key || JS_IsException(v) || JS_SetModuleExport(ctx, m, key, v))
            r = -1;
        JS_FreeCString(ctx, key);
    }
    JS_FreePropertyEnum(ctx, keys, n);
    if (!r && !JS_HasProperty(ctx, exports, JS_ATOM_default))
        r = JS_SetModuleExport(ctx, m, "default", js_dup(exports));
    JS_FreeValue(ctx, exports);
    return r;
}

static JSModuleDef *module_synthetic(JSContext *ctx, const char *name, JSValueConst exports)
{
    JSModuleDef *m = JS_NewCModule(ctx, name, module_set_exports);
    JSPropertyEnum *keys = NULL;
    uint32_t n = 0;
    if (!m || JS_GetOwnPropertyNames(ctx, &keys, &n, exports, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY))
        return NULL;
    int r = 0;
    for (uint32_t i = 0; i < n && !r; i++) {
        const char *key = JS_AtomToCString(ctx, keys[i].atom);
        r = key ? JS_AddModuleExport(ctx, m, key) : -1;
        JS_FreeCString(ctx, key);
    }
    JS_FreePropertyEnum(ctx, keys, n);
    if (!r && !JS_HasProperty(ctx, exports, JS_ATOM_default))
        r = JS_AddModuleExport(ctx, m, "default");
    return r ? NULL : m;
}

static JSModuleDef *module_javascript(JSContext *ctx, const char *name, JSValueConst source)
{
    size_t n;
    const char *s = JS_ToCStringLen(ctx, &n, source);
    if (!s)
        return NULL;
    keep_module_text(s, n);
    JSValue f = JS_Eval(ctx, s, n, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(f))
        return NULL;
    JSModuleDef *m = JS_VALUE_GET_PTR(f);
    JSValue meta = JS_GetImportMeta(ctx, m);
    if (!JS_IsException(meta)) {
        // The URL shape and the `main` flag that bundlers and libraries look at.
        JS_DefinePropertyValueStr(ctx, meta, "url", JS_NewString(ctx, name), JS_PROP_C_W_E);
        JS_FreeValue(ctx, meta);
    }
    JS_FreeValue(ctx, f);
    return m;
}

// A module the bundle registered, by any of its names (`util` for `node:util`).
static JSModuleDef *module_builtin(JSContext *ctx, const char *name)
{
    JSValue exports = JS_GetPropertyStr(ctx, builtin_modules, name);
    JSModuleDef *m = JS_IsObject(exports) ? module_synthetic(ctx, name, exports) : NULL;
    JS_FreeValue(ctx, exports);
    return m;
}

// `[kind, content]` from the host, or null.
static JSValue module_fetch(JSContext *ctx, const char *name)
{
    JSValue args[2] = { JS_NewString(ctx, "module.load"), JS_NewString(ctx, name) };
    JSValue v = host_js_call(ctx, JS_UNDEFINED, 2, vc(args));
    JS_FreeValue(ctx, args[0]);
    JS_FreeValue(ctx, args[1]);
    return v;
}

static JSModuleDef *module_other_kind(JSContext *ctx, const char *name, JSValueConst kind, JSValueConst content)
{
    JSValue args[3] = { JS_NewString(ctx, name), js_dup(kind), js_dup(content) };
    JSValue exports = JS_Call(ctx, hooks.on_module, JS_UNDEFINED, 3, vc(args));
    for (int i = 0; i < 3; i++)
        JS_FreeValue(ctx, args[i]);
    JSModuleDef *m = NULL;
    if (JS_IsObject(exports) && JS_SetPropertyStr(ctx, builtin_modules, name, js_dup(exports)) >= 0)
        m = module_synthetic(ctx, name, exports);
    JS_FreeValue(ctx, exports);
    return m;
}

static JSModuleDef *module_load(JSContext *ctx, const char *name, void *opaque)
{
    // A worker's own module wins over a bare built-in name (`util`), never over a prefixed one.
    bool prefixed = !strncmp(name, "node:", 5) || !strncmp(name, "cloudflare:", 11);
    if (prefixed) {
        JSModuleDef *m = module_builtin(ctx, name);
        if (m || JS_HasException(ctx))
            return m;
    }
    JSValue answer = module_fetch(ctx, name);
    if (JS_IsException(answer))
        return NULL;
    JSModuleDef *m = NULL;
    if (JS_IsNull(answer)) {
        m = prefixed ? NULL : module_builtin(ctx, name);
        if (!m && !JS_HasException(ctx))
            JS_ThrowPlainError(ctx, "No such module \"%s\".", name);
        return m;
    }
    JSValue kind = JS_GetPropertyUint32(ctx, answer, 0);
    JSValue content = JS_GetPropertyUint32(ctx, answer, 1);
    const char *k = JS_ToCString(ctx, kind);
    if (k)
        m = strcmp(k, "js") ? module_other_kind(ctx, name, kind, content) : module_javascript(ctx, name, content);
    JS_FreeCString(ctx, k);
    JS_FreeValue(ctx, kind);
    JS_FreeValue(ctx, content);
    JS_FreeValue(ctx, answer);
    return m;
}
