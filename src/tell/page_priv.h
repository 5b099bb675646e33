/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces that all pages are made of (page.c).
 */
#pragma once

#include "tell/page.h"
#include "tell/text.h"

/* Everything before and after the content. status gives the icon its colour; home: a link back. */
void page_open(struct buf *b, const char *title, const char *status, bool home);
void page_close(struct buf *b);

/* A string of the object; "" when there is none. */
const char *page_field(const json_t *o, const char *key);
/* A status or an outcome, as a word with its colour. */
void page_word(struct buf *b, const char *word);
/* "12 345"; a dash when it is no number. */
void page_number(struct buf *b, const json_t *n);
/* Milliseconds as "3.2 ms", "2.4 s". */
void page_ms(struct buf *b, const json_t *ms);
/* How long ago, with the time itself in the title; or the time itself. */
void page_since(struct buf *b, const char *when, uint64_t now_ms);
void page_time(struct buf *b, const char *when);
void page_instant(struct buf *b, const char *when); /* with milliseconds */
/* A link to /KIND/NAME. */
void page_link(struct buf *b, const char *kind, const char *name);
void page_json(struct buf *b, const json_t *j);
/* "guestbook@11 → guestbook@12" */
void page_from_to(struct buf *b, const json_t *change);
