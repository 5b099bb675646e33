/* SPDX-License-Identifier: Apache-2.0
 *
 * The watcher: runs the checks of the devices, and nothing else.
 */
#pragma once

/* The whole process; returns its exit status. */
int watcher_main(int argc, char **argv);
