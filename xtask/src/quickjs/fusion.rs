//! Operations that often follow one another are done at once (`crates/isolate/guest/glue/fusion.h`).

use super::Patch;

pub(super) const FUSION: &[Patch] = &[
    Patch {
        why: "what the loop uses for it",
        find: "static inline JSValue skep_call(JSContext *ctx,",
        replace: "#include \"fusion.h\"\n\nstatic inline JSValue skep_call(JSContext *ctx,",
        count: 1,
    },
    Patch {
        why: "the first property of a chain is nearly always the one: compared before the loop, whose every round looks at the epoch",
        find: "    while (h) {\n        pr = &prop[h - 1];\n        if (likely(pr->atom == atom)) {\n            *ppr = &p->prop[h - 1];\n            /* the compiler should be able to assume that pr != NULL here */\n            return pr;\n        }\n        h = pr->hash_next;\n    }\n    *ppr = NULL;\n",
        replace: "    if (h) {\n        pr = &prop[h - 1];\n        if (likely(pr->atom == atom)) {\n            *ppr = &p->prop[h - 1];\n            return pr;\n        }\n        while ((h = pr->hash_next)) {\n            pr = &prop[h - 1];\n            if (pr->atom == atom) {\n                *ppr = &p->prop[h - 1];\n                return pr;\n            }\n        }\n    }\n    *ppr = NULL;\n",
        count: 1,
    },
    Patch {
        why: "what was found by a comparison, and a value that is looked at in its variable",
        find: "        int call_argc;\n        JSValue *call_argv;\n\n        SWITCH(pc) {\n",
        replace: "        int call_argc;\n        JSValue *call_argv;\n        bool holds;\n        JSValue borrowed;\n\n        SWITCH(pc) {\n",
        count: 1,
    },
    Patch {
        why: "the branch that follows a comparison",
        find: "        CASE(OP_if_false8):\n            {\n                int res;\n                JSValue op1;\n\n                op1 = sp[-1];\n                pc += 1;\n                if ((uint32_t)JS_VALUE_GET_TAG(op1) <= JS_TAG_UNDEFINED) {\n                    res = JS_VALUE_GET_INT(op1);\n                } else {\n                    res = JS_ToBoolFree(ctx, op1);\n                }\n                sp--;\n                if (!res) {\n",
        replace: "        CASE(OP_if_false8):\n            {\n                JSValue op1;\n\n                op1 = sp[-1];\n                pc += 1;\n                if ((uint32_t)JS_VALUE_GET_TAG(op1) <= JS_TAG_UNDEFINED) {\n                    holds = JS_VALUE_GET_INT(op1) != 0;\n                } else {\n                    holds = JS_ToBoolFree(ctx, op1);\n                }\n                sp--;\n            skep_branch:\n                if (!holds) {\n",
        count: 1,
    },
    Patch {
        why: "… of two integers",
        find: "                    sp[-2] = js_bool(JS_VALUE_GET_INT(op1) binary_op JS_VALUE_GET_INT(op2)); \\\n                    sp--;                                               \\\n",
        replace: "                    holds = JS_VALUE_GET_INT(op1) binary_op JS_VALUE_GET_INT(op2); \\\n                    if (*pc == OP_if_false8) {                          \\\n                        sp -= 2;                                        \\\n                        pc += 2;                                        \\\n                        goto skep_branch;                               \\\n                    }                                                   \\\n                    sp[-2] = js_bool(holds);                            \\\n                    sp--;                                               \\\n",
        count: 1,
    },
    Patch {
        why: "… of a string with a constant",
        find: "        CASE(OP_push_atom_value):\n            *sp++ = JS_AtomToValue(ctx, get_u32(pc));\n            pc += 4;\n",
        replace: "        CASE(OP_push_atom_value):\n        skep_push_atom_value:\n            if (pc[4] == OP_strict_eq) {\n                JSString *atom = skep_compared_atom(rt, pc - 1, sp[-1]);\n                if (atom) {\n                    holds = skep_is_atom(JS_VALUE_GET_STRING(sp[-1]), atom);\n                    JS_FreeValue(ctx, sp[-1]);\n                    sp--;\n                    pc += 7;\n                    goto skep_branch;\n                }\n            }\n            {\n                JSAtom atom = get_u32(pc);\n                *sp++ = __JS_AtomIsTaggedInt(atom) ? JS_AtomToValue(ctx, atom) : js_dup(JS_MKPTR(JS_TAG_STRING, rt->atom_array[atom]));\n            }\n            pc += 4;\n",
        count: 1,
    },
    Patch {
        why: "… of a string with the constant of a `case`",
        find: "        CASE(OP_dup):\n            sp[0] = js_dup(sp[-1]);\n",
        replace: "        CASE(OP_dup):\n            if (*pc == OP_push_atom_value) {\n                JSString *atom = skep_compared_atom(rt, pc, sp[-1]);\n                if (atom) {\n                    holds = skep_is_atom(JS_VALUE_GET_STRING(sp[-1]), atom);\n                    pc += 8;\n                    goto skep_branch;\n                }\n            }\n            sp[0] = js_dup(sp[-1]);\n",
        count: 1,
    },
    Patch {
        why: "a field of an object in a variable: the object need not be counted up and down",
        find: "        CASE(OP_get_loc0): *sp++ = js_dup(var_buf[0]); BREAK;\n        CASE(OP_get_loc1): *sp++ = js_dup(var_buf[1]); BREAK;\n        CASE(OP_get_loc2): *sp++ = js_dup(var_buf[2]); BREAK;\n        CASE(OP_get_loc3): *sp++ = js_dup(var_buf[3]); BREAK;\n",
        replace: "        CASE(OP_get_loc0): borrowed = var_buf[0]; goto skep_borrowed;\n        CASE(OP_get_loc1): borrowed = var_buf[1]; goto skep_borrowed;\n        CASE(OP_get_loc2): borrowed = var_buf[2]; goto skep_borrowed;\n        CASE(OP_get_loc3): borrowed = var_buf[3]; goto skep_borrowed;\n",
        count: 1,
    },
    Patch {
        why: "…",
        find: "        CASE(OP_get_arg0): *sp++ = js_dup(arg_buf[0]); BREAK;\n        CASE(OP_get_arg1): *sp++ = js_dup(arg_buf[1]); BREAK;\n",
        replace: "        CASE(OP_get_arg0): borrowed = arg_buf[0]; goto skep_borrowed;\n        CASE(OP_get_arg1): borrowed = arg_buf[1]; goto skep_borrowed;\n",
        count: 1,
    },
    Patch {
        why: "… and two variables at once",
        find: "                sp[0] = js_dup(var_buf[idx]);\n                sp++;\n            }\n            BREAK;\n        CASE(OP_put_loc_check):\n",
        replace: "                borrowed = var_buf[idx];\n                if (*pc == OP_get_loc_check && !JS_IsUninitialized(var_buf[get_u16(pc + 1)])) {\n                    *sp++ = js_dup(borrowed);\n                    borrowed = var_buf[get_u16(pc + 1)];\n                    pc += 3;\n                }\n                *sp++ = js_dup(borrowed);\n            }\n            BREAK;\n        skep_borrowed:\n            if (*pc == OP_get_field && JS_VALUE_GET_TAG(borrowed) == JS_TAG_OBJECT) {\n                JSProperty *pr = skep_plain_property(JS_VALUE_GET_OBJ(borrowed), get_u32(pc + 1));\n                if (pr) {\n                    *sp++ = js_dup(pr->u.value);\n                    pc += 5;\n                    BREAK;\n                }\n            }\n            *sp++ = js_dup(borrowed);\n            BREAK;\n        CASE(OP_put_loc_check):\n",
        count: 1,
    },
    Patch {
        why: "a jump often leads to a variable",
        find: "        CASE(OP_goto8):\n            pc += (int8_t)pc[0];\n            if (unlikely(js_poll_interrupts(ctx)))\n                goto exception;\n",
        replace: "        CASE(OP_goto8):\n        skep_goto8:\n            pc += (int8_t)pc[0];\n            if (unlikely(js_poll_interrupts(ctx)))\n                goto exception;\n            if (*pc == OP_get_loc_check) {\n                pc++;\n                goto skep_get_loc_check;\n            }\n",
        count: 1,
    },
    Patch {
        why: "an assignment is followed by a jump or by the next statement",
        find: "        CASE(OP_put_loc_check):\n            {\n                int idx;\n                idx = get_u16(pc);\n                pc += 2;\n                if (unlikely(JS_IsUninitialized(var_buf[idx]))) {\n                    JS_ThrowReferenceErrorUninitialized2(caller_ctx, b, idx,\n                                                         false);\n                    goto exception;\n                }\n                set_value(ctx, &var_buf[idx], sp[-1]);\n                sp--;\n            }\n",
        replace: "        CASE(OP_put_loc_check):\n        skep_put_loc_check:\n            {\n                int idx;\n                idx = get_u16(pc);\n                pc += 2;\n                if (unlikely(JS_IsUninitialized(var_buf[idx]))) {\n                    JS_ThrowReferenceErrorUninitialized2(caller_ctx, b, idx,\n                                                         false);\n                    goto exception;\n                }\n                set_value(ctx, &var_buf[idx], sp[-1]);\n                sp--;\n            }\n            if (*pc == OP_goto8) {\n                pc++;\n                goto skep_goto8;\n            }\n            if (*pc == OP_get_loc_check) {\n                pc++;\n                goto skep_get_loc_check;\n            }\n",
        count: 1,
    },
    Patch {
        why: "… reached from elsewhere",
        find: "        CASE(OP_get_loc_check):\n            {\n",
        replace: "        CASE(OP_get_loc_check):\n        skep_get_loc_check:\n            {\n",
        count: 1,
    },
    Patch {
        why: "a sum is assigned",
        find: "                    if (unlikely(r < INT32_MIN || r > INT32_MAX))\n                        sp[-2] = js_float64(r);\n                    else\n                        sp[-2] = js_int32(r);\n                    sp--;\n                } else if (JS_VALUE_IS_BOTH_FLOAT(op1, op2)) {\n                    JS_X87_FPCW_SAVE_AND_ADJUST(fpcw);\n                    sp[-2] = js_float64(JS_VALUE_GET_FLOAT64(op1) +\n",
        replace: "                    if (unlikely(r < INT32_MIN || r > INT32_MAX))\n                        sp[-2] = js_float64(r);\n                    else\n                        sp[-2] = js_int32(r);\n                    sp--;\n                    SKEP_THEN_ASSIGN;\n                } else if (JS_VALUE_IS_BOTH_FLOAT(op1, op2)) {\n                    JS_X87_FPCW_SAVE_AND_ADJUST(fpcw);\n                    sp[-2] = js_float64(JS_VALUE_GET_FLOAT64(op1) +\n",
        count: 1,
    },
    Patch {
        why: "bits are assigned",
        find: "JS_VALUE_GET_INT(op1) | JS_VALUE_GET_INT(op2));\n                    sp--;\n",
        replace: "JS_VALUE_GET_INT(op1) | JS_VALUE_GET_INT(op2));\n                    sp--;\n                    SKEP_THEN_ASSIGN;\n",
        count: 1,
    },
    Patch {
        why: "bits are assigned",
        find: "        CASE(OP_xor):\n            {\n                JSValue op1, op2;\n                op1 = sp[-2];\n                op2 = sp[-1];\n                if (likely(JS_VALUE_IS_BOTH_INT(op1, op2))) {\n                    sp[-2] = js_int32(JS_VALUE_GET_INT(op1) ^ JS_VALUE_GET_INT(op2));\n                    sp--;\n",
        replace: "        CASE(OP_xor):\n        skep_xor:\n            {\n                JSValue op1, op2;\n                op1 = sp[-2];\n                op2 = sp[-1];\n                if (likely(JS_VALUE_IS_BOTH_INT(op1, op2))) {\n                    sp[-2] = js_int32(JS_VALUE_GET_INT(op1) ^ JS_VALUE_GET_INT(op2));\n                    sp--;\n                    SKEP_THEN_ASSIGN;\n",
        count: 1,
    },
    Patch {
        why: "shifted bits are mixed with others",
        find: "                    sp[-2] = js_int32(v1 << v2);\n                    sp--;\n",
        replace: "                    sp[-2] = js_int32(v1 << v2);\n                    sp--;\n                    if (*pc == OP_xor) {\n                        pc++;\n                        opcode = OP_xor;\n                        goto skep_xor;\n                    }\n",
        count: 1,
    },
    Patch {
        why: "what was counted up is assigned",
        find: "                        goto inc_slow;\n                    sp[-1] = js_int32(val + 1);\n",
        replace: "                        goto inc_slow;\n                    sp[-1] = js_int32(val + 1);\n                    SKEP_THEN_ASSIGN;\n",
        count: 1,
    },
    Patch {
        why: "a character is compared with a constant",
        find: "                        JS_FreeValue(ctx, sp[-2]);\n                        sp[-2] = val;\n                        sp--;\n                        BREAK;\n                    }\n                }\n                sf->cur_pc = pc;\n                val = JS_GetPropertyValue(ctx, sp[-2], sp[-1]);\n                JS_FreeValue(ctx, sp[-2]);\n                sp[-2] = val;\n                sp--;\n",
        replace: "                        JS_FreeValue(ctx, sp[-2]);\n                        sp[-2] = val;\n                        sp--;\n                        if (*pc == OP_push_atom_value) {\n                            pc++;\n                            goto skep_push_atom_value;\n                        }\n                        BREAK;\n                    }\n                }\n                sf->cur_pc = pc;\n                val = JS_GetPropertyValue(ctx, sp[-2], sp[-1]);\n                JS_FreeValue(ctx, sp[-2]);\n                sp[-2] = val;\n                sp--;\n",
        count: 1,
    },
    Patch {
        why: "the length of a string without a lookup",
        find: "                get_length_slow_path:\n                    sf->cur_pc = pc;\n",
        replace: "                    if (JS_VALUE_GET_TAG(obj) == JS_TAG_STRING) {\n                        val = js_int32(JS_VALUE_GET_STRING(obj)->len);\n                        JS_FreeValue(ctx, obj);\n                        sp[-1] = val;\n                        BREAK;\n                    }\n                get_length_slow_path:\n                    sf->cur_pc = pc;\n",
        count: 1,
    },
    Patch {
        why: "an assignment to a `let` leaves no value behind if nobody takes it, as one to a `var` does",
        find: "                    add_pc2line_info(s, bc_out.size, line_num, col_num);\n                    put_short_code(&bc_out, op1, cc.idx);\n                    if (line2 >= 0) line_num = line2;\n                    break;\n                }\n            }\n            goto no_change;\n\n        case OP_swap:\n",
        replace: "                    add_pc2line_info(s, bc_out.size, line_num, col_num);\n                    put_short_code(&bc_out, op1, cc.idx);\n                    if (line2 >= 0) line_num = line2;\n                    break;\n                }\n                if (code_match(&cc, pos_next, M2(OP_put_loc_check, OP_put_var_ref_check), -1, OP_drop, -1)) {\n                    if (cc.line_num >= 0) line_num = cc.line_num;\n                    if (cc.col_num >= 0) col_num = cc.col_num;\n                    add_pc2line_info(s, bc_out.size, line_num, col_num);\n                    dbuf_putc(&bc_out, cc.op);\n                    dbuf_put_u16(&bc_out, cc.idx);\n                    pos_next = cc.pos;\n                    break;\n                }\n            }\n            goto no_change;\n\n        case OP_swap:\n",
        count: 1,
    },
    Patch {
        why: "… nor does `i++`",
        find: "                if (code_match(&cc, pos_next, OP_perm3, OP_put_field, OP_drop, -1)) {\n",
        replace: "                if (code_match(&cc, pos_next, M2(OP_put_loc_check, OP_put_var_ref_check), -1, OP_drop, -1)) {\n                    if (cc.line_num >= 0) line_num = cc.line_num;\n                    if (cc.col_num >= 0) col_num = cc.col_num;\n                    add_pc2line_info(s, bc_out.size, line_num, col_num);\n                    dbuf_putc(&bc_out, OP_dec + (op - OP_post_dec));\n                    dbuf_putc(&bc_out, cc.op);\n                    dbuf_put_u16(&bc_out, cc.idx);\n                    pos_next = cc.pos;\n                    break;\n                }\n                if (code_match(&cc, pos_next, OP_perm3, OP_put_field, OP_drop, -1)) {\n",
        count: 1,
    },
];
