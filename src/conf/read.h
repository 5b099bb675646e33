/* SPDX-License-Identifier: Apache-2.0
 *
 * From the tree to struct conf, in two steps: each value by its row of the schema, then
 * what holds between values and between apps.
 */
#pragma once

#include "conf/schema.h"
#include "conf/tree.h"

struct reader {
	struct conf *conf;
	struct conf_problems *problems;
	const char *app, *device; /* whose map is read; NULL at the top */
};

/* A mistake at this node; the text says what, what was expected, and what to do. */
#define WRONG(r, node, ...) problem_error((r)->problems, (node)->line, (node)->column, __VA_ARGS__)

/* Reads a value into its field in base (struct conf or struct conf_app). Not for sections and apps,
 * which are maps of keys. */
void read_value(struct reader *r, const struct schema_row *row, struct tree_node *n, void *base);

/* Fills conf (zero before; defaults first). Every mistake goes to problems. */
void read_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);
/* The second step; fills in hosts where they may be left out, and the index of apps. */
void check_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);

/* auto.c: apps with tls: auto, and what they need; fills in autos. hosts are final. */
void check_auto(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);
/* For read_device.c: maps of keys, and what stands in them. */
void read_map(struct reader *r, const struct tree_node *map, enum schema_owner owner, const char *prefix,
	      void *base);
void read_defaults(struct reader *r, enum schema_owner owner, void *base);
void read_devices(struct reader *r, const struct schema_row *row, const struct tree_node *n);
void read_checks(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		 struct conf_device *device);
void read_needs(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		struct conf_needs *needs);
void check_devices(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);
void needs_fini(struct conf_needs *needs);
void device_fini(struct conf_device *d);

void list_add_text(struct conf_text_list *l, const char *text, size_t len);
void list_free_texts(struct conf_text_list *l);
