/* SPDX-License-Identifier: Apache-2.0 */
#include "tell/tell_priv.h"

void tell_devices_look(struct tell *t)
{
}
void tell_page(struct call *c, json_t *body)
{
}
void tell_device_page(struct call *c, json_t *body)
{
}
void tell_feed(struct call *c, json_t *body)
{
}
