/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request asks for: pure functions over bytes that anyone may send. Nothing is allocated,
 * nothing kept.
 */
#pragma once

#include "wire/http1.h"

#define ASK_PATH_MAX 1024
#define ASK_TAG 35 /* "32 hexadecimal digits", with quotes and NUL */

/* Decodes the path of a target ("/a/b%20c/") into a name relative to the root ("a/b c/"; "" for the
 * root itself). Returns 0, or the status to refuse it with: 400 for what could mean something else
 * to someone else (a broken escape, NUL, an encoded slash, "." and ".." segments, a backslash, control
 * bytes), 404 for what is never served (empty segments, dot files but /.well-known/), 414. */
int ask_path(struct http1_slice path, char ret[ASK_PATH_MAX]);

enum ask_range {
	ASK_WHOLE, /* none, malformed, of another unit, or several: all of it is a right answer */
	ASK_PART,
	ASK_NONE, /* 416 */
};

/* A Range header over `size` bytes (RFC 9110, 14.1.2): first byte and length of the one range. */
enum ask_range ask_range(struct http1_slice value, uint64_t size, uint64_t *ret_at, uint64_t *ret_len);

/* Does an If-None-Match or If-Match list name this strong tag? A "*" does; a weak tag of the list only
 * when `weak` comparison is asked for (RFC 9110, 8.8.3.2). A malformed list names nothing behind its
 * fault. */
bool ask_names(struct http1_slice list, const char *tag, bool weak);
/* Does If-Range let a part of what has this tag be sent? A date never does: there is none to compare. */
bool ask_if_range(struct http1_slice value, const char *tag);

/* The weight of a content coding in Accept-Encoding, in thousandths: -1 when the field does not name it
 * (nor "*"). `coding` is lower case. */
int ask_weight(struct http1_slice accept, const char *coding);

/* --- what a name says (type.c) --- */

/* "text/html; charset=utf-8"; application/octet-stream for an unknown extension. */
const char *type_of(const char *name);
/* Does the name carry a hash of the content: name.HASH.ext or name-HASH.ext, with 8 to 64 hexadecimal
 * digits of both kinds? */
bool type_is_fingerprinted(const char *name);
