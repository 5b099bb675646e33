/* SPDX-License-Identifier: Apache-2.0
 *
 * The router: carries users' requests. Started by the keeper as `upstate _router`
 * with the keeper's socket on descriptor 3; everything else comes over it. It
 * ends when that socket ends.
 */
#pragma once

int router_main(int argc, char **argv);
