/* SPDX-License-Identifier: Apache-2.0
 *
 * From the tree to struct conf, in two steps: each value by its row of the schema, then
 * what holds between values and between apps.
 */
#pragma once

#include "conf/schema.h"
#include "conf/tree.h"

/* Fills conf (zero before; defaults first). Every mistake goes to problems. */
void read_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);
/* The second step; fills in hosts where they may be left out, and the index of apps. */
void check_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems);

void list_add_text(struct conf_text_list *l, const char *text, size_t len);
void list_free_texts(struct conf_text_list *l);
