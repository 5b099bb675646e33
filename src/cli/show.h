/* SPDX-License-Identifier: Apache-2.0
 *
 * How numbers, tables and receipts look. Nothing here prints: all goes into buffers, which is
 * also how it is tested.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"

#define SHOW_TEXT 32

const char *show_count(uint64_t n, char text[SHOW_TEXT]); /* "1,532" */
const char *show_ms(double ms, char text[SHOW_TEXT]);	  /* "1.9 ms", "40 ms", "2.4 s", "3 min" */
const char *show_bytes(uint64_t bytes, char text[SHOW_TEXT]); /* "812 B", "1.4 MB" */
/* "2026-11-22 01:39:15", from what the API says; the text itself when it is no time. */
const char *show_time(const char *rfc3339, char text[SHOW_TEXT]);

/* Text that came from elsewhere: control characters would command the terminal. */
void show_clean(struct buf *out, const char *text);

/* Fields of JSON objects; what is missing or of another type comes out as "" or 0. */
const char *field_text(const json_t *o, const char *key);
uint64_t field_count(const json_t *o, const char *key);
double field_real(const json_t *o, const char *key);

/* --- tables --- */

#define TABLE_COLUMNS_MAX 10

struct show_table {
	const char *const *heads; /* ends with NULL */
	bool colour;		  /* cells that are a status get its colour */
	struct buf cells;	  /* each terminated */
	size_t count;
};

void show_cell(struct show_table *t, const char *fmt, ...) PRINTF(2, 3);
/* Appends the table, columns aligned, and frees it. The last column is as long as it is. */
void show_table_end(struct show_table *t, struct buf *out);

/* --- changes --- */

/* "guestbook@13 done in 2.4 s: 1,532 requests, 0 failed, ..." and what that means for us. */
void show_receipt(const json_t *change, struct buf *out);
/* "   0.4 s  guestbook@13/1 serves" */
void show_step(const json_t *step, struct buf *out);
/* done 0, undone 4, else 1. */
int show_exit_status(const json_t *change);
/* "[########------------]  40 %"; width: of the whole. */
void show_bar(uint64_t done, uint64_t all, int width, struct buf *out);
