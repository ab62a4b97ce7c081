/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The host's half of a device on native_sim, built with the host's C library.
 *
 * Zephyr's driver opens /dev/net/tun and makes a tap of its own. A device in its jail has neither; it
 * has a descriptor, which its interface names: `--eth-if=fd:<number>`. Whatever reads and writes a frame
 * at a time will do: a tap without headers, or a socket of datagrams.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int __real_eth_iface_create(const char *device, const char *name, bool tun_only);

/* Takes the place of the function in Zephyr's driver (the linker's --wrap). */
int __wrap_eth_iface_create(const char *device, const char *name, bool tun_only)
{
	static const char prefix[] = "fd:";
	char *end;
	long fd;

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
		return __real_eth_iface_create(device, name, tun_only);
	}
	name += sizeof(prefix) - 1;
	fd = strtol(name, &end, 10);
	if (end == name || *end != '\0' || fd < 0 || fd > INT32_MAX) {
		return -EINVAL;
	}
	return (int)fd;
}

/* Microseconds of the host's clock. */
uint64_t zfl_host_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Fills in octets that nobody can guess; false if the host has none. */
bool zfl_host_random(uint8_t *octets, size_t len)
{
	return getrandom(octets, len, 0) == (ssize_t)len;
}
