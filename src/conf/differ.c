/* SPDX-License-Identifier: Apache-2.0
 *
 * Is anything in the configuration of an app another than before? What is neither text nor list nor page
 * is compared as bytes, so that a new key cannot be forgotten here: a pointer that is would always differ.
 */
#include <string.h>

#include "conf/conf.h"

#define AT(field) offsetof(struct conf_app, field)

static const size_t texts[] = {AT(name), AT(tcp), AT(run), AT(data), AT(stop),
			       AT(health_path), AT(rate_by), AT(realm), AT(sticky), AT(balance)};
static const size_t lists[] = {AT(hosts), AT(paths), AT(env), AT(targets), AT(allow), AT(deny), AT(users),
			       AT(request_set), AT(request_remove), AT(answer_set), AT(answer_remove)};

static bool texts_differ(const char *x, const char *y)
{
	return !x != !y || (x && strcmp(x, y) != 0);
}

/* Items may be NAME, NUL, VALUE: of these lists, both parts count. */
static bool lists_differ(const struct conf_text_list *x, const struct conf_text_list *y, bool pairs)
{
	if (x->len != y->len)
		return true;
	for (uint32_t i = 0; i < x->len; i++) {
		const char *a = x->items[i], *b = y->items[i];

		if (strcmp(a, b) != 0 || (pairs && strcmp(a + strlen(a) + 1, b + strlen(b) + 1) != 0))
			return true;
	}
	return false;
}

/* Where it stands in the file is no difference; what is in the page is. */
static bool pages_differ(const struct conf_page *x, const struct conf_page *y)
{
	return x->on != y->on || texts_differ(x->path, y->path) || x->len != y->len ||
	       (x->len && memcmp(x->data, y->data, x->len) != 0);
}

static bool redirects_differ(const struct conf_app *x, const struct conf_app *y)
{
	if (x->redirect_count != y->redirect_count)
		return true;
	for (uint32_t i = 0; i < x->redirect_count; i++)
		if (x->redirects[i].status != y->redirects[i].status ||
		    strcmp(x->redirects[i].from, y->redirects[i].from) != 0 ||
		    strcmp(x->redirects[i].to, y->redirects[i].to) != 0)
			return true;
	return false;
}

static bool needs_differ(const struct conf_needs *x, const struct conf_needs *y)
{
	if (x->len != y->len)
		return true;
	for (uint32_t i = 0; i < x->len; i++)
		if (lists_differ(&x->items[i].any, &y->items[i].any, false))
			return true;
	return false;
}

/* A copy of what is to be compared as bytes. */
static void rest_of(const struct conf_app *a, struct conf_app *ret)
{
	memcpy(ret, a, sizeof(*ret));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*(char **)((char *)ret + texts[i]) = NULL;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		*(struct conf_text_list *)((char *)ret + lists[i]) = (struct conf_text_list){0};
	memset(&ret->maintenance, 0, sizeof(ret->maintenance));
	memset(ret->pages, 0, sizeof(ret->pages));
	ret->redirects = NULL;
	ret->needs.items = NULL;
}

bool conf_app_differs(const struct conf_app *x, const struct conf_app *y)
{
	struct conf_app rest[2];

	if (!x || !y)
		return x != y;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts_differ(*(char *const *)((const char *)x + texts[i]),
				 *(char *const *)((const char *)y + texts[i])))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (lists_differ((const void *)((const char *)x + lists[i]),
				 (const void *)((const char *)y + lists[i]),
				 lists[i] == AT(request_set) || lists[i] == AT(answer_set)))
			return true;
	for (int i = 0; i < CONF_PAGE_COUNT; i++)
		if (pages_differ(&x->pages[i], &y->pages[i]))
			return true;
	if (pages_differ(&x->maintenance, &y->maintenance) || redirects_differ(x, y) ||
	    needs_differ(&x->needs, &y->needs))
		return true;
	rest_of(x, &rest[0]);
	rest_of(y, &rest[1]);
	return memcmp(&rest[0], &rest[1], sizeof(rest[0])) != 0;
}
