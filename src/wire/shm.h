/* SPDX-License-Identifier: Apache-2.0
 *
 * The numbers: memory that the keeper makes, the router writes, and the
 * controller reads. It outlives them both, so a receipt survives a crash of
 * either, and what was inside a router that died is known.
 *
 * Each router thread has its own row of counters for each slot, so counting is a
 * plain add to memory that no other thread writes; readers sum the rows. There are
 * two banks of rows, so that a router and the one that takes its place each count in
 * their own for as long as both are there: bank b has the rows from b * N on, for N
 * threads, and passes to the next router when its process has ended. States of targets
 * are written by the router of one bank only, the speaker; the keeper says which.
 * Fields are C11 atomics used with relaxed order: each number is right, two
 * numbers read together may be an instant apart.
 *
 * Slots: the controller gives each app and each target a slot (in the routing
 * table). A slot is used anew only after every thread has taken up a table
 * without it; the controller then zeroes its rows.
 */
#pragma once

#include <stdatomic.h>

#include "base/util.h"

#define SHM_MAGIC 0x55505354u /* "UPST" */
#define SHM_VERSION 4
#define SHM_THREADS 64 /* rows of both banks */
#define SHM_BANKS 2
#define SHM_SLOTS 40000 /* apps and targets together */

/* Counters of a slot. X(name, what it counts). Slots of apps and of targets have the same ones;
 * what cannot happen to one of them stays 0. Each row is exported as a metric by itself: how its name
 * becomes the metric's stands in tell/metrics_names.c; one whose text ends with "(app)" or "(target)"
 * only for those, and one whose text begins with "of these: " as a family of its own, since it counts a part
 * of what another one counts. */
#define COUNT_TABLE(X)                                                                             \
	X(requests, "requests taken from clients for an app, tries sent to a target")              \
	X(answered_1xx, "answers passed on, by class of status")                                   \
	X(answered_2xx, "")                                                                        \
	X(answered_3xx, "")                                                                        \
	X(answered_4xx, "")                                                                        \
	X(answered_5xx, "")                                                                        \
	X(refused_4xx, "answered by Upstate itself: the request was at fault (app)")               \
	X(refused_401, "of these: no user of the app")                                             \
	X(refused_403, "of these: the address may not use the app")                                \
	X(refused_429, "of these: over the client's rate")                                         \
	X(refused_503, "answered by Upstate itself: the app is in maintenance")                    \
	X(rate_forgotten, "clients whose rate was forgotten for another's: too many at once")      \
	X(redirected, "answered by Upstate itself: by a redirect of the app's")                    \
	X(failed_502, "answered by Upstate itself: the target broke, and no retry was right")      \
	X(failed_503_full, "no place left in the waiting room (app)")                              \
	X(failed_503_waited, "waited as long as was allowed (app)")                                \
	X(failed_504, "the target did not answer in time")                                         \
	X(failed_cut, "answer had begun and could not be finished; or cut by the end of a drain")  \
	X(failed_lost, "was inside a router that died")                                            \
	X(client_left, "the client went away first")                                               \
	X(held, "waited in the waiting room at all (app)")                                         \
	X(held_ms, "sum of the waits in the waiting room (app)")                                   \
	X(slowed, "waited over 1 s (app)")                                                         \
	X(retried_unsent, "sent to another target: nothing had been written")                      \
	X(retried_unread, "sent to another target: the socket proved it unread")                   \
	X(retried_safe, "sent to another target once: GET or HEAD without an answer")              \
	X(retried_moved, "sent to another target once: GET or HEAD, and the first was stuck")      \
	X(over_time, "ended by the limit for the whole request; and counted as what it was (app)") \
	X(retry_refused, "not tried again: too many were, of late")                                \
	X(tries_failed, "no connection, broken off, malformed, or no answer in time (target)")      \
	X(suspected, "times that a target was silent for too long")                                \
	X(ejected, "times that a target was given a rest")                                         \
	X(heads, "answers that began (target)")                                                    \
	X(heads_us, "sum of the times until they did, from when they were asked for (target)")     \
	X(connects, "connections opened to it (target)")                                           \
	X(connect_failed, "connections to it that failed (target)")                                \
	X(reused, "requests on a connection that was there (target)")                              \
	X(upgraded, "connections that became tunnels")                                             \
	X(probes, "health probes sent (target)")                                                   \
	X(probes_failed, "health probes that failed (target)")                                     \
	X(bytes_in, "body bytes from clients")                                                     \
	X(bytes_out, "body bytes to clients")

/* Latency of answered requests, first byte in to last byte out, waiting included: buckets of
 * a quarter of an octave from 32 microseconds on, so they reach to 9 hours. */
#define SHM_BUCKETS 120

/* What is there now, of a slot. X(name, what it is). A router begins with none of it. */
#define GAUGE_TABLE(X)                                                                             \
	X(inflight, "requests inside, to which an answer is still owed")                           \
	X(waiting, "requests in the waiting room (app)")                                           \
	X(waiting_bytes, "memory that the waiting requests take (app)")                            \
	X(held_now, "requests that waited, to which an answer is still owed (app)")                 \
	X(tunnels, "upgraded connections")                                                         \
	X(connections, "connections to it, idle ones included (target)")

struct shm_counts {
#define X(name, what) _Atomic uint64_t name;
	COUNT_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	_Atomic uint64_t longest_us; /* since the controller last set it to 0 */
	_Atomic uint64_t latency_us; /* sum of what is in the buckets */
	_Atomic uint64_t latency[SHM_BUCKETS];
};

/* What the router finds a target to be. X(name, lower) */
#define TARGET_STATE_TABLE(X)                                                                      \
	X(UNKNOWN, unknown) /* not looked at yet */                                                \
	X(UP, up)                                                                                  \
	X(DOWN, down)

enum target_state {
#define X(name, lower) TARGET_##name,
	TARGET_STATE_TABLE(X)
#undef X
};

/* Per-slot words that are a state, not a count; written by the speaker's main thread (targets). */
struct shm_slot {
	_Atomic uint64_t id;	   /* of the target or app that has the slot; 0: free (controller) */
	_Atomic uint32_t state;	   /* enum target_state */
	_Atomic int32_t error;	   /* errno or HTTP status of the probe that failed last */
	_Atomic uint64_t since_ms; /* of this state, clock_ms() */
	_Atomic uint64_t passed;   /* probes passed since the target came into the table */
	_Atomic uint64_t last_ms;  /* of the last probe */
	_Atomic uint32_t ejected;  /* enum eject_cause (core/eject.h); 0: it is not */
	_Atomic uint32_t ejected_value;		/* what spoke against it */
	_Atomic uint64_t ejected_until_wall_ms; /* 0: until it answers */
};

/* Counters of one thread of the router that belong to no app. A text that ends with "(gauge)" makes it
 * one; metrics come out of this table too. */
#define THREAD_COUNT_TABLE(X)                                                                      \
	X(clients, "client connections now (gauge)")                                               \
	X(accepted, "client connections accepted")                                                 \
	X(accept_failed, "not accepted for want of descriptors or memory")                         \
	X(clients_refused, "closed at once: as many as allowed were there")                        \
	X(proxy_refused, "closed: their PROXY header was missing, malformed or late")               \
	X(connections_refused, "closed at once: as many as allowed were there from its address")   \
	X(addresses_full, "let in uncounted: too many addresses at once to count each")            \
	X(bad_requests, "answered 400, 414, 431 before an app was known")                          \
	X(unknown_host, "answered 404: no app has this host and path")                             \
	X(handed_over, "client connections given to the next router")                              \
	X(taken_over, "taken from the router before")                                              \
	X(log_written, "access log records")                                                       \
	X(log_left_out, "requests that were not logged because only a share is")                   \
	X(log_dropped, "access log records for which the ring had no room")                        \
	X(no_memory, "requests failed for want of memory")                                         \
	X(tls_handshakes, "TLS handshakes that were completed")                                    \
	X(tls_resumed, "of them, sessions that were resumed")                                      \
	X(tls_left, "TLS handshakes that the client broke off")                                    \
	X(tls_late, "TLS handshakes that took longer than a request's head may")                   \
	X(tls_put_off, "TLS handshakes that others were served before, each time")                 \
	X(tls_unshared, "TLS handshakes without a version, cipher or protocol in common")          \
	X(tls_garbage, "connections to a TLS address that sent something else")                   \
	X(h2_connections, "client connections that spoke HTTP/2")                                  \
	X(h2_streams, "streams of theirs")                                                         \
	X(h2_calmed, "ended for what asks for much and leads to nothing")                          \
	X(h2_full, "tries at targets all of whose HTTP/2 connections were full")

struct shm_thread {
	_Atomic uint64_t generation; /* of the table in use */
	_Atomic uint64_t tick_ms;    /* when the thread last turned */
#define X(name, what) _Atomic uint64_t name;
	THREAD_COUNT_TABLE(X)
#undef X
	uint64_t pad[2];
};

/* What the controller counts for itself; kept here so that it outlives it. X(name, what it counts) */
#define CONTROLLER_COUNT_TABLE(X)                                                                  \
	X(api_refused, "connections to the API: as many as allowed were there")                    \
	X(scrapes_refused, "calls for all numbers: as many as allowed went on")                    \
	X(devices_refused, "statuses for which there was no room")                                 \
	X(keys_refused, "values for which there was no room")

struct shm_controller {
#define X(name, what) _Atomic uint64_t name;
	CONTROLLER_COUNT_TABLE(X)
#undef X
};

struct shm {
	uint32_t magic, version, threads, slots;
	_Atomic uint32_t used[SHM_BANKS]; /* a router has the bank; kept by who starts routers */
	_Atomic uint32_t speaker; /* the bank whose router tells the states of targets; likewise */
	_Atomic uint64_t world; /* chosen by the first controller: tells a later one, by its own record,
				   whether the keeper is still the same */
	struct shm_controller controller;
	struct shm_thread thread[SHM_THREADS];
	struct shm_slot slot[SHM_SLOTS];
	struct shm_counts counts[]; /* [thread * SHM_SLOTS + slot] */
};

static inline struct shm_counts *shm_counts(struct shm *shm, uint32_t thread, uint32_t slot)
{
	return &shm->counts[(size_t)thread * SHM_SLOTS + slot];
}

/* For the one writer of a counter: no locked instruction. */
static inline void shm_add(_Atomic uint64_t *n, uint64_t by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static inline void shm_sub(_Atomic uint64_t *n, uint64_t by)
{
	shm_add(n, (uint64_t)0 - by);
}

static inline uint64_t shm_get(const _Atomic uint64_t *n)
{
	return atomic_load_explicit((_Atomic uint64_t *)n, memory_order_relaxed);
}

size_t shm_size(uint32_t threads);
/* Makes the memory (sparse: what is not touched costs nothing); returns a descriptor, sealed
 * against a change of size, or -1 with errno. */
int shm_create(uint32_t threads);
/* Maps it; NULL with errno when it is not what shm_create() made. */
struct shm *shm_map(int fd);
void shm_unmap(struct shm *shm);

/* A plain copy of a slot's counters, summed over threads. */
struct shm_sum {
#define X(name, what) uint64_t name;
	COUNT_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	uint64_t longest_us, latency_us;
	uint64_t latency[SHM_BUCKETS];
};
void shm_sum_slot(struct shm *shm, uint32_t slot, struct shm_sum *ret);
/* a - b for what counts up; gauges and longest_us are a's. */
void shm_sum_minus(struct shm_sum *a, const struct shm_sum *b);
/* The same, added up. */
void shm_sum_plus(struct shm_sum *a, const struct shm_sum *b);
void shm_zero_slot(struct shm *shm, uint32_t slot);
/* The newest table that all threads of all routers use; 0 when there is no router. */
uint64_t shm_applied(const struct shm *shm);
/* The router that had this bank is no more: what was inside it is counted as lost and returned, and
 * its gauges begin at nothing. */
uint64_t shm_bury(struct shm *shm, uint32_t bank);

uint32_t shm_bucket(uint64_t us);     /* the bucket of a latency */
uint64_t shm_bucket_us(uint32_t i);   /* its upper end */
/* Upper end of the bucket in which the q-quantile (0..1) falls, in microseconds; 0 when empty. */
uint64_t shm_quantile_us(const struct shm_sum *s, double q);
