/* SPDX-License-Identifier: Apache-2.0
 *
 * The logger: what instances print goes to STATE/log/APP.log, the access records of the
 * router to STATE/log/access.log. It drains whatever comes, always: what cannot be
 * written is counted and dropped, because an instance that waits for its log is an
 * instance that users wait for.
 *
 * A log file is rotated by size: APP.log, APP.log.1 (the one before) and so on.
 * An app that is called "access" has access.app.log.
 */
#pragma once

/* argv: "upstate" "_logger" STATE. Returns the exit status. */
int logger_main(int argc, char **argv);
