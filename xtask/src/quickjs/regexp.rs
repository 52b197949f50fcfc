//! Regular expressions: the parser stays, the matcher is our own (`crates/isolate/guest/glue/regexp.h`).

use super::Patch;

/// Patches of libregexp.c.
pub(super) const MATCHER: &[Patch] = &[
    Patch {
        why: "the matcher is used by the parser's end, before its own place in the text",
        find: "/* 'buf' must be a zero terminated UTF-8 string of length buf_len.\n   Return NULL",
        replace: "static bool is_line_terminator(uint32_t c);\n#include \"regexp.h\"\n\n/* 'buf' must be a zero terminated UTF-8 string of length buf_len.\n   Return NULL",
        count: 1,
    },
    Patch {
        why: "what the parser emitted is translated",
        find: "    s->byte_code.buf[RE_HEADER_CAPTURE_COUNT] = s->capture_count;\n",
        replace: "    if (rx_translate(&s->byte_code, s->is_unicode, is_sticky, s->opaque)) {\n        re_parse_out_of_memory(s);\n        goto error;\n    }\n    s->byte_code.buf[RE_HEADER_CAPTURE_COUNT] = s->capture_count;\n",
        count: 1,
    },
    Patch {
        why: "the original matcher is left out",
        find: "#define GET_CHAR(c, cptr, cbuf_end, cbuf_type)                          \\\n",
        replace: "#if 0\n#define GET_CHAR(c, cptr, cbuf_end, cbuf_type)                          \\\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "int lre_get_alloc_count(const uint8_t *bc_buf)\n{",
        replace: "#endif\nint lre_get_alloc_count(const uint8_t *bc_buf)\n{",
        count: 1,
    },
];
