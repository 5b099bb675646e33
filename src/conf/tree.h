/* SPDX-License-Identifier: Apache-2.0
 *
 * YAML as a tree whose nodes know their line and column, so that every later
 * message can point at the place. Only what a configuration needs: text, lists and
 * maps. Anchors, aliases, tags and second documents are refused by name, depth and
 * number of nodes are bounded, and a key that stands twice is a problem here already.
 */
#pragma once

#include "conf/problems.h"

#define TREE_DEPTH_MAX 16
#define TREE_NODES_MAX 2000000

enum tree_kind { TREE_TEXT, TREE_LIST, TREE_MAP };

struct tree_node {
	enum tree_kind kind;
	bool plain; /* text without quotes: `off`, `5` and nothing mean more than letters */
	uint32_t line, column;
	uint32_t len;			/* of text; number of children otherwise */
	const char *text;		/* terminated, without NUL inside */
	struct tree_node *first, *last; /* children; those of a map are its keys */
	struct tree_node *next;
	struct tree_node *value; /* of a key */
};

struct tree {
	struct tree_node *root; /* NULL: nothing in the file */
	struct tree_chunk *chunks;
	size_t nodes;
};

/* Reads the whole text. Returns false when the text is no YAML that we take (problems say why); a
 * tree with duplicate keys is still returned, without the second ones. */
bool tree_parse(const char *text, size_t len, struct tree *ret, struct conf_problems *problems);
void tree_free(struct tree *t);

/* The key node in a map, or NULL. */
struct tree_node *tree_key(const struct tree_node *map, const char *key);
/* "text", "a list", "a map of keys", "nothing". */
const char *tree_kind_name(const struct tree_node *n);
/* `key:` with nothing after it. */
bool tree_nothing(const struct tree_node *n);
