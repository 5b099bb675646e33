/* SPDX-License-Identifier: Apache-2.0
 *
 * What no single value shows: what excludes what, what needs what, and which app
 * stands in another's way. All in one pass with hash maps, so that 10,000 apps are
 * checked in the time that it takes to read them.
 */
#include <string.h>

#include "conf/read.h"

#define TARGETS_MAX 30000 /* core/table.h: TABLE_TARGETS_MAX */
#define TCP_APPS_MAX 60 /* each has a listening socket; old and new ones may be there together */
#define TCP_LIMIT 1024
#define ROUTES_MAX 200000 /* so that a small file cannot ask for a huge table */

struct claim { /* of a host and path, or of a data directory */
	const struct conf_app *app;
	uint32_t line;
};

struct checker {
	struct conf *conf;
	struct conf_problems *problems;
	struct map routes, data;
	uint32_t http_apps;
	struct claim *claims; /* that the maps point into */
	size_t claim_count, claim_cap;
};

static const struct tree_node *find_item(const struct tree_node *list, uint32_t i)
{
	const struct tree_node *n;

	if (!list || list->kind != TREE_LIST)
		return list;
	for (n = list->first; n && i; n = n->next)
		i--;
	return n;
}

/* --- one app --- */

bool conf_runs_files(const char *run)
{
	return strncmp(run, "upstate files ", strlen("upstate files ")) == 0 ||
	       strncmp(run, "exec upstate files ", strlen("exec upstate files ")) == 0;
}

static void check_run(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *run = tree_key(key->value, "run");
	const struct tree_node *targets = tree_key(key->value, "targets");

	if (!run && !targets)
		problem_error(
		    c->problems, key->line, key->column,
		    "app '%s' has neither 'run' nor 'targets': say how it runs, or where it is",
		    app->name);
	if (run && targets)
		problem_error(
		    c->problems, targets->line, targets->column,
		    "app '%s' has 'run' (line %u) and 'targets': Upstate either runs it or not",
		    app->name, run->line);
	if (run && app->run && !strstr(app->run, "$UPSTATE_SOCKET") && !strstr(app->run, "$PORT") &&
	    !strstr(app->run, "${") && !conf_runs_files(app->run))
		problem_warn(c->problems, run->line, run->column,
			     "app '%s': 'run' names neither $PORT nor $UPSTATE_SOCKET; the program "
			     "must then read $PORT itself to know where to listen",
			     app->name);
	if (!targets || run)
		return;
	for (const struct tree_node *k = key->value->first; k; k = k->next) {
		const struct schema_row *row = schema_find(SCHEMA_APP, "", k->text);

		if (row && row->run_only)
			problem_warn(c->problems, k->line, k->column,
				     "app '%s': '%s' has no effect, because Upstate does not run "
				     "its targets",
				     app->name, k->text);
	}
}

/* What an app whose users do not speak HTTP to us cannot have. */
static void check_tcp(struct checker *c, struct conf_app *app, const struct tree_node *key)
{
	static const char *const of_http[] = {"hosts",	   "path",    "body",	 "retry_unread", "auth",
					      "redirects", "headers", "errors", "sticky", "tls", "protocol"};
	const struct tree_node *health = tree_key(key->value, "health"), *found;

	for (size_t i = 0; i < ARRAY_LEN(of_http); i++)
		if ((found = tree_key(key->value, of_http[i])))
			problem_error(c->problems, found->line, found->column,
				      "app '%s' has 'tcp', so '%s' means nothing: nobody reads what its users say",
				      app->name, of_http[i]);
	found = health ? tree_key(health->value, "path") : NULL;
	if (found)
		problem_error(c->problems, found->line, found->column,
			      "app '%s' has 'tcp': its health is that a connection opens, without a path",
			      app->name);
	if (strstr(app->rate_by, "header") || strstr(app->balance, "header") || strstr(app->balance, "path"))
		problem_error(c->problems, key->line, key->column,
			      "app '%s' has 'tcp': 'rate' and 'balance' can go by address alone", app->name);
	if (!tree_key(key->value, "limit"))
		app->target_limit = TCP_LIMIT;
}

static void check_eject(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *eject = tree_key(key->value, "eject"), *at;

	if (!eject || eject->value->kind != TREE_MAP || app->eject_most_ms >= app->eject_time_ms)
		return;
	at = tree_key(eject->value, "time");
	at = at ? at : tree_key(eject->value, "most");
	problem_error(c->problems, at->line, at->column,
		      "app '%s': the first ejection (eject.time) is longer than the longest (eject.most)",
		      app->name);
}

/* A PROXY header speaks for all that comes on a connection, and that is not one client's there. */
static void check_protocol(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *proxy = tree_key(key->value, "proxy");

	if (app->protocol == CONF_H2C && app->proxy && proxy)
		problem_error(c->problems, proxy->line, proxy->column,
			      "app '%s' has 'protocol: h2c', where clients share connections, so 'proxy' cannot say who one is; "
			      "X-Forwarded-For does",
			      app->name);
}

static void check_hosts(struct checker *c, struct conf_app *app, const struct tree_node *key)
{
	if (tree_key(key->value, "hosts"))
		return;
	if (c->http_apps == 1)
		list_add_text(&app->hosts, "*", 1);
	else
		problem_error(c->problems, key->line, key->column,
			      "app '%s' has no hosts, and there are other apps: give it 'hosts: "
			      "[%s.example.org]', or 'hosts: [\"*\"]' for what no other app takes",
			      app->name, app->name);
}

/* Keys of an app's policy that need each other. */
static void check_policy(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *rate = tree_key(key->value, "rate"), *auth = tree_key(key->value, "auth");
	const struct tree_node *sticky = tree_key(key->value, "sticky");

	if (rate && rate->value->kind == TREE_MAP && !tree_key(rate->value, "requests"))
		problem_error(c->problems, rate->line, rate->column,
			      "app '%s': rate: 'requests' is missing: how many may come in %u ms?",
			      app->name, app->rate_ms);
	if (auth && auth->value->kind == TREE_MAP && !tree_key(auth->value, "users"))
		problem_error(c->problems, auth->line, auth->column,
			      "app '%s': auth: 'users' is missing; `upstate password NAME` makes one",
			      app->name);
	if (sticky && app->sticky && app->balance && strcmp(app->sticky, "0") != 0 &&
	    strcmp(app->balance, "least") != 0)
		problem_error(c->problems, sticky->line, sticky->column,
			      "app '%s': 'sticky' and 'balance: %s' both choose the target; leave one out",
			      app->name, app->balance);
}

/* --- between apps --- */

/* Room for each host with each path, and each data directory. */
static bool count_claims(struct checker *c, const struct tree_node *apps)
{
	uint64_t routes = 0;

	for (uint32_t i = 0; i < c->conf->app_count; i++) {
		const struct conf_app *app = &c->conf->apps[i];

		/* Without hosts there will be one, "*". */
		routes += (uint64_t)MAX(app->hosts.len, 1u) * app->paths.len;
	}
	if (routes > ROUTES_MAX) {
		problem_error(
		    c->problems, apps->line, apps->column,
		    "the apps have %llu pairs of a host and a path in all; %u are possible",
		    (unsigned long long)routes, ROUTES_MAX);
		return false;
	}
	c->claim_cap = (size_t)routes + c->conf->app_count;
	return true;
}

static struct claim *claim_new(struct checker *c, const struct conf_app *app, uint32_t line)
{
	ensure(c->claim_count < c->claim_cap);
	c->claims[c->claim_count] = (struct claim){app, line};
	return &c->claims[c->claim_count++];
}

static void check_routes(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *hosts = tree_key(key->value, "hosts");
	const struct tree_node *item = NULL;

	for (uint32_t h = 0; h < app->hosts.len; h++) {
		uint64_t host = map_hash(app->hosts.items[h], strlen(app->hosts.items[h]) + 1);

		/* Items that were wrong are not in the list, and then the place is the list's. */
		item =
		    hosts && hosts->value->kind == TREE_LIST && hosts->value->len == app->hosts.len
			? (item ? item->next : find_item(hosts->value, 0))
			: NULL;
		for (uint32_t p = 0; p < app->paths.len; p++) {
			const char *path = app->paths.items[p];
			uint64_t hash = map_hash_more(host, path, strlen(path));
			const struct claim *first = map_get(&c->routes, hash);
			const struct tree_node *place = item ? item : hosts ? hosts->value : key;

			if (first)
				problem_error(c->problems, place->line, place->column,
					      "app '%s': host '%.100s' with path '%.100s' belongs "
					      "to app '%s' "
					      "already (line %u)",
					      app->name, app->hosts.items[h], path,
					      first->app->name, first->line);
			else
				map_put(&c->routes, hash, claim_new(c, app, place->line));
		}
	}
}

static void check_data(struct checker *c, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *data = tree_key(key->value, "data");
	const struct claim *first;
	uint64_t hash;

	if (!data || !app->data)
		return;
	hash = map_hash(app->data, strlen(app->data));
	first = map_get(&c->data, hash);
	if (first)
		problem_warn(c->problems, data->line, data->column,
			     "app '%s' shares its data directory '%s' with app '%s' (line %u)",
			     app->name, app->data, first->app->name, first->line);
	else
		map_put(&c->data, hash, claim_new(c, app, data->line));
}

/* An address is one app's, or that of all of HTTP, or where people look. */
static void check_addresses(struct checker *c, const struct tree_node *apps)
{
	const struct tree_node *key = apps->value->first, *place;
	const struct conf *conf = c->conf;
	struct map taken = {0};
	uint32_t count = 0;

	for (uint32_t i = 0; i < conf->listen.len; i++)
		map_put(&taken, map_hash(conf->listen.items[i], strlen(conf->listen.items[i])), "listen");
	if (conf->admin)
		map_put(&taken, map_hash(conf->admin, strlen(conf->admin)), "admin");
	for (uint32_t i = 0; i < conf->app_count; i++, key = key->next) {
		const char *tcp = conf->apps[i].tcp, *owner;
		uint64_t hash = tcp ? map_hash(tcp, strlen(tcp)) : 0;

		if (!tcp)
			continue;
		place = tree_key(key->value, "tcp");
		owner = map_get(&taken, hash);
		if (owner)
			problem_error(c->problems, place->line, place->column,
				      "app '%s': %s belongs to '%s' already; give one of them another",
				      conf->apps[i].name, tcp, owner);
		else
			map_put(&taken, hash, conf->apps[i].name);
		if (++count == TCP_APPS_MAX + 1)
			problem_error(c->problems, place->line, place->column,
				      "more than %d apps with 'tcp'", TCP_APPS_MAX);
	}
	map_free(&taken);
}

static void check_totals(struct checker *c, const struct tree_node *root,
			 const struct tree_node *apps)
{
	const struct tree_node *admin = tree_key(root, "admin");
	uint64_t targets = 0;

	for (uint32_t i = 0; i < c->conf->app_count; i++)
		targets += c->conf->apps[i].run ? c->conf->apps[i].instances
						: c->conf->apps[i].targets.len;
	if (targets > TARGETS_MAX)
		problem_error(c->problems, apps->line, apps->column,
			      "the apps have %llu instances and targets in all; %u are possible",
			      (unsigned long long)targets, TARGETS_MAX);
	for (uint32_t i = 0; c->conf->admin && i < c->conf->listen.len; i++)
		if (strcmp(c->conf->listen.items[i], c->conf->admin) == 0)
			problem_error(
			    c->problems, admin ? admin->line : 1, admin ? admin->column : 1,
			    "admin: %s is an address for users already (listen)%s", c->conf->admin,
			    admin ? "" : "; give admin another, or 'http: off'");
}

/* What https needs: a certificate to show, and somewhere to lead to. */
static void check_https(struct checker *c, const struct tree_node *root, const struct tree_node *apps)
{
	const struct tree_node *listen = tree_key(root, "listen"), *certs = tree_key(root, "certificates");
	const struct tree_node *key = apps->value->first;
	bool https = conf_https_port(c->conf) != 0, by_itself = false;

	for (uint32_t i = 0; i < c->conf->app_count; i++)
		by_itself |= c->conf->apps[i].tls == CONF_TLS_AUTO;
	if (https && !certs && !by_itself)
		problem_error(c->problems, listen->line, listen->column,
			      "listen: https needs a certificate; add 'certificates: [{cert: FILE, key: "
			      "FILE}]', or 'tls: auto' to an app");
	if (certs && !https)
		problem_warn(c->problems, certs->line, certs->column,
			     "certificates have no effect: no address in 'listen' has https");
	for (uint32_t i = 0; i < c->conf->app_count; i++, key = key->next) {
		const struct tree_node *at = key->value->kind == TREE_MAP ? tree_key(key->value, "https") : NULL;

		if (c->conf->apps[i].https != CONF_HTTPS_REDIRECT || https ||
		    c->conf->trusted_proxies.len || !at)
			continue;
		problem_error(c->problems, at->line, at->column,
			      "app '%s': there is nothing to redirect to: no address in 'listen' has https, "
			      "and no trusted proxy may have it",
			      c->conf->apps[i].name);
	}
}

static void finish_top(struct conf *c, const struct tree_node *root, struct conf_problems *problems)
{
	const struct tree_node *listen = tree_key(root, "listen");

	if (!listen)
		list_add_text(&c->listen, "127.0.0.1:8080", strlen("127.0.0.1:8080"));
	if (!c->listen_more)
		c->listen_more = util_alloc(c->listen.len * sizeof(*c->listen_more));
	for (uint32_t i = 0; listen && i < c->listen.len; i++)
		if (c->listen_more[i].proxy && !c->listen_more[i].proxy_from.len && !c->trusted_proxies.len)
			problem_error(problems, listen->line, listen->column,
				      "listen: %s has 'proxy: true', which believes trusted_proxies, and there are none; "
				      "give them, or write 'proxy: [NETWORK]'",
				      c->listen.items[i]);
	if (c->admin && strcmp(c->admin, "off") == 0) {
		free(c->admin);
		c->admin = NULL;
	}
}

void check_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems)
{
	const struct tree_node *apps = tree_key(root, "apps");
	struct checker c = {.conf = conf, .problems = problems};
	const struct tree_node *key;
	uint32_t i = 0;

	finish_top(conf, root, problems);
	if (!apps || !conf->app_count) {
		if (!apps || (apps->value->kind == TREE_MAP && !apps->value->len))
			problem_error(problems, apps ? apps->line : 1, apps ? apps->column : 1,
				      "there is no app; three lines make one: apps:, its name, and "
				      "'run: COMMAND'");
		return;
	}
	if (!count_claims(&c, apps))
		return;
	c.claims = util_alloc(c.claim_cap * sizeof(*c.claims));
	for (i = 0; i < conf->app_count; i++)
		c.http_apps += !conf->apps[i].tcp;
	key = apps->value->first;
	for (i = 0; i < conf->app_count; i++, key = key->next) {
		struct conf_app *app = &conf->apps[i];

		map_put(&conf->index, map_hash(app->name, strlen(app->name)), app);
		if (key->value->kind != TREE_MAP)
			continue;
		check_run(&c, app, key);
		check_eject(&c, app, key);
		check_protocol(&c, app, key);
		if (app->tcp)
			check_tcp(&c, app, key);
		else
			check_hosts(&c, app, key);
		check_routes(&c, app, key);
		check_data(&c, app, key);
		check_policy(&c, app, key);
	}
	check_devices(root, conf, problems);
	check_addresses(&c, apps);
	check_totals(&c, root, apps);
	check_auto(root, conf, problems);
	check_https(&c, root, apps);
	map_free(&c.routes);
	map_free(&c.data);
	free(c.claims);
}
