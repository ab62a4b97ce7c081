/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What Zephyr offers only as macros and inline functions, as functions for src/glue.rs to declare.
 *
 * Decisions stay in Rust: a function here makes one call, or the few that belong together, and
 * turns errno into a negative result. Addresses are four octets in the order in which they are
 * written, ports are in the host's byte order, and no structure of Zephyr's crosses but pollfd.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/kernel/mm.h>
#include <zephyr/net/net_if.h>
#include <zephyr/net/net_ip.h>
#include <zephyr/net/net_mgmt.h>
#include <zephyr/net/net_stats.h>
#include <zephyr/net/socket.h>
#include <zephyr/random/random.h>
#include <zephyr/shell/shell.h>
#include <zephyr/sys/fdtable.h>
#include <zephyr/sys/ring_buffer.h>
#include <zephyr/timing/timing.h>

/* --- Heap ------------------------------------------------------------------------------------ */

/*
 * Memory for the heap, not initialized, or NULL.
 *
 * With an MMU it is mapped at boot from what the image leaves free. As a static array it would lie
 * in the middle of the image, where a loader fills it with zeros: an emulated device would cost its
 * host all of the heap instead of the pages that it has touched.
 */
void *zfl_heap_memory(void)
{
#ifdef CONFIG_MMU
	return k_mem_map(ROUND_UP(CONFIG_ZFL_HEAP_SIZE, CONFIG_MMU_PAGE_SIZE),
			 K_MEM_PERM_RW | K_MEM_MAP_UNINIT);
#else
	static __noinit __aligned(16) uint8_t memory[CONFIG_ZFL_HEAP_SIZE];

	return memory;
#endif
}

/* --- Threads --------------------------------------------------------------------------------- */

/*
 * Zephyr's macros align and guard a stack, which zephyr-lang-rust's cannot. Both threads wait for
 * what they are given, so they may start with the kernel. Network threads come before them all,
 * then the shell (CONFIG_SHELL_THREAD_PRIORITY): a device answers while it trains, and whoever
 * types is heard.
 */
#define CLIENT_PRIORITY  7
#define TRAINER_PRIORITY 10

void zfl_client_thread(void *, void *, void *);
void zfl_trainer_thread(void *, void *, void *);

K_THREAD_DEFINE(zfl_client, CONFIG_ZFL_CLIENT_STACK_SIZE, zfl_client_thread, NULL, NULL, NULL,
		CLIENT_PRIORITY, 0, 0);
#ifdef CONFIG_ZFL_DEVICE
K_THREAD_DEFINE(zfl_trainer, CONFIG_ZFL_TRAINER_STACK_SIZE, zfl_trainer_thread, NULL, NULL, NULL,
		TRAINER_PRIORITY, 0, 0);
#endif

/* --- Time ------------------------------------------------------------------------------------ */

uint64_t zfl_timing_counter(void)
{
	return timing_counter_get();
}

/*
 * Lets the device's time go on by as much as its host's has.
 *
 * On native_sim a thread computes in no time at all, and nothing else happens until it waits: so whoever
 * computes for long calls this now and then, and waits for as long as that took. Elsewhere time passes by itself.
 */
void zfl_time_passes(void)
{
#ifdef CONFIG_ARCH_POSIX
	uint64_t zfl_host_us(void);
	uint64_t ahead = zfl_host_us() - k_ticks_to_us_floor64(k_uptime_ticks());
	static uint64_t least = UINT64_MAX;

	/* What lies between the two clocks at least is when this one began. */
	least = MIN(least, ahead);
	k_busy_wait((uint32_t)MIN(ahead - least, UINT32_MAX));
#endif
}

/* --- Randomness ------------------------------------------------------------------------------ */

/* RDRAND of the processor; QEMU takes it from its host's own source. A program of the host asks the host. */
static bool processor_random(uint8_t *bytes, size_t len)
{
#ifdef CONFIG_ARCH_POSIX
	bool zfl_host_random(uint8_t *bytes, size_t len);

	return zfl_host_random(bytes, len);
#elif defined(CONFIG_X86)
	const uint32_t rdrand = BIT(30);
	uint32_t eax = 1, ebx, ecx = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (!(ecx & rdrand)) {
		return false;
	}
	for (size_t at = 0; at < len; at++) {
		uint32_t bits = 0;
		uint8_t there = 0;

		/* As many tries as Intel advises. */
		for (int try = 0; try < 10 && !there; try++) {
			__asm__ volatile("rdrand %0; setc %1" : "=r"(bits), "=q"(there) : : "cc");
		}
		if (!there) {
			return false;
		}
		bytes[at] = (uint8_t)bits;
	}
	return true;
#else
	return false;
#endif
}

/*
 * The best that the board has: the processor's generator, Zephyr's cryptographic one (of a program of the host
 * it is a test's, with one seed for all), or else Zephyr's test generator with the finest counter mixed in,
 * which a neighbour could guess.
 */
void zfl_random(uint8_t *bytes, size_t len)
{
	if (processor_random(bytes, len)) {
		return;
	}
#ifdef CONFIG_CSPRNG_ENABLED
	if (sys_csrand_get(bytes, len) == 0) {
		return;
	}
#endif
	sys_rand_get(bytes, len);
	for (size_t at = 0; at < len; at++) {
		bytes[at] ^= (uint8_t)timing_counter_get();
	}
}

/* --- Shell ----------------------------------------------------------------------------------- */

int zfl_shell_command(const struct shell *sh, size_t argc, char **argv);

SHELL_CMD_ARG_REGISTER(run, NULL,
		       "Join a federation.\n"
		       "run <ip> server=<ip>:<port> [client=<n>] [address=<ip>:<port>] "
		       "[secret=<word>] [gateway=<ip>] [mask=<bits>] [icount=<shift>]",
		       zfl_shell_command, 1, SHELL_OPT_ARG_CHECK_SKIP);
SHELL_CMD_ARG_REGISTER(crash, NULL,
		       "Die on purpose, to test who watches over this device.\n"
		       "crash panic|fault|stack|heap",
		       zfl_shell_command, 1, SHELL_OPT_ARG_CHECK_SKIP);
SHELL_CMD_ARG_REGISTER(hog, NULL,
		       "Take heap away from the device, to test what it does without.\n"
		       "hog <KiB>|all; hog 0 gives it back",
		       zfl_shell_command, 1, SHELL_OPT_ARG_CHECK_SKIP);
SHELL_CMD_ARG_REGISTER(selftest, NULL,
		       "Train small models and compare the bits of what they learnt with the host's.",
		       zfl_shell_command, 1, SHELL_OPT_ARG_CHECK_SKIP);
SHELL_CMD_ARG_REGISTER(stat, NULL, "Show heap and stack high-water marks.", zfl_shell_command, 1,
		       SHELL_OPT_ARG_CHECK_SKIP);

void zfl_shell_line(const struct shell *sh, const char *line)
{
	shell_print(sh, "%s", line);
}

/* --- Interface ------------------------------------------------------------------------------- */

static struct in_addr to_in_addr(const uint8_t octets[4])
{
	struct in_addr address;

	memcpy(&address, octets, sizeof(address));
	return address;
}

int zfl_net_set_address(const uint8_t address[4], const uint8_t netmask[4],
			const uint8_t *gateway)
{
	struct net_if *iface = net_if_get_default();
	struct in_addr own = to_in_addr(address);
	struct in_addr mask = to_in_addr(netmask);

	if (iface == NULL) {
		return -ENODEV;
	}
#ifdef CONFIG_ETH_SMSC911X
	/* The driver rounds a frame up to words and then asks for more than the longest that there is. */
	net_if_set_mtu(iface, 1498);
#endif
	if (net_if_ipv4_addr_add(iface, &own, NET_ADDR_MANUAL, 0) == NULL) {
		return -ENOMEM;
	}
	net_if_ipv4_set_netmask_by_addr(iface, &own, &mask);
	if (gateway != NULL) {
		struct in_addr via = to_in_addr(gateway);

		net_if_ipv4_set_gw(iface, &via);
	}
	return 0;
}

struct zfl_tcp_counters {
	uint32_t sent;
	uint32_t received;
	uint32_t sent_again;
};

/* src/glue.rs writes it as a structure of its own. */
BUILD_ASSERT(sizeof(struct zfl_tcp_counters) == 12);

/*
 * Segments are counted as IP packets that are not ICMP's, since nothing but TCP and ICMP is built in:
 * Zephyr's own counters of segments leave out those that carry no data, and count received data
 * twice. What is sent again is TCP's own count, in which only data is.
 */
int zfl_net_tcp_counters(struct zfl_tcp_counters *counters)
{
	struct net_stats_tcp tcp;
	struct net_stats_ip ip;
	struct net_stats_icmp icmp;

	BUILD_ASSERT(!IS_ENABLED(CONFIG_NET_UDP), "datagrams would be taken for segments");
	if (net_mgmt(NET_REQUEST_STATS_GET_TCP, NULL, &tcp, sizeof(tcp)) != 0 ||
	    net_mgmt(NET_REQUEST_STATS_GET_IPV4, NULL, &ip, sizeof(ip)) != 0 ||
	    net_mgmt(NET_REQUEST_STATS_GET_ICMP, NULL, &icmp, sizeof(icmp)) != 0) {
		return -ENOTSUP;
	}
	counters->sent = ip.sent - icmp.sent;
	counters->received = ip.recv - icmp.recv;
	counters->sent_again = tcp.rexmit;
	return 0;
}

/* --- TCP: sockets that never block ----------------------------------------------------------- */

/* src/glue.rs writes pollfd as a structure of its own. */
BUILD_ASSERT(sizeof(struct zsock_pollfd) == 8 && offsetof(struct zsock_pollfd, events) == 4 &&
	     offsetof(struct zsock_pollfd, revents) == 6);
BUILD_ASSERT(ZSOCK_POLLIN == 1);

static int or_errno(int result)
{
	return result < 0 ? -errno : result;
}

static struct sockaddr_in to_sockaddr(const uint8_t octets[4], uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = to_in_addr(octets),
	};

	return address;
}

static int never_block(int fd)
{
	return or_errno(zsock_fcntl(fd, ZVFS_F_SETFL, ZVFS_O_NONBLOCK));
}

int zfl_tcp_open(void)
{
	int fd = zsock_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);

	if (fd < 0) {
		return -errno;
	}
	never_block(fd);
	return fd;
}

int zfl_tcp_listen(uint16_t port, int backlog)
{
	static const uint8_t any[4];
	struct sockaddr_in address = to_sockaddr(any, port);
	int fd = zfl_tcp_open();
	int result;

	if (fd < 0) {
		return fd;
	}
	result = zsock_bind(fd, (struct sockaddr *)&address, sizeof(address));
	if (result == 0) {
		result = zsock_listen(fd, backlog);
	}
	if (result < 0) {
		result = -errno;
		zsock_close(fd);
		return result;
	}
	return fd;
}

/* The next stream, and the address that it comes from. */
int zfl_tcp_accept(int fd, uint8_t octets[4])
{
	struct sockaddr_in peer = {0};
	socklen_t len = sizeof(peer);
	int accepted = zsock_accept(fd, (struct sockaddr *)&peer, &len);

	if (accepted < 0) {
		return -errno;
	}
	memcpy(octets, &peer.sin_addr, 4);
	never_block(accepted);
	return accepted;
}

/* Starts to connect, or tells how far that is: 0 when the stream is up. */
int zfl_tcp_connect(int fd, const uint8_t octets[4], uint16_t port)
{
	struct sockaddr_in address = to_sockaddr(octets, port);
	int result = or_errno(zsock_connect(fd, (struct sockaddr *)&address, sizeof(address)));

	return result == -EISCONN ? 0 : result;
}

int zfl_tcp_read(int fd, void *buffer, size_t len)
{
	return or_errno(zsock_recv(fd, buffer, len, 0));
}

/* 1 if there is something to read, 0 at the end of the stream. */
int zfl_tcp_peek(int fd)
{
	uint8_t octet;

	return or_errno(zsock_recv(fd, &octet, 1, ZSOCK_MSG_PEEK));
}

int zfl_tcp_write(int fd, const void *buffer, size_t len)
{
	return or_errno(zsock_send(fd, buffer, len, 0));
}

int zfl_tcp_close(int fd)
{
	return or_errno(zsock_close(fd));
}

int zfl_tcp_poll(struct zsock_pollfd *fds, int count, int timeout_ms)
{
	return or_errno(zsock_poll(fds, count, timeout_ms));
}

/* --- Radio: a UART of its own ---------------------------------------------------------------- */

#ifdef CONFIG_ZFL_RADIO

static const struct device *const radio = DEVICE_DT_GET(DT_CHOSEN(zfl_radio));

/* Room for the longest message of the line, and for what comes behind it. */
RING_BUF_DECLARE(radio_came, 2048);
K_SEM_DEFINE(radio_says, 0, 1);

static void radio_interrupt(const struct device *uart, void *unused)
{
	uint8_t octets[16];
	int len;

	ARG_UNUSED(unused);
	while (uart_irq_update(uart) && uart_irq_rx_ready(uart)) {
		len = uart_fifo_read(uart, octets, sizeof(octets));
		if (len <= 0) {
			break;
		}
		ring_buf_put(&radio_came, octets, len);
	}
	k_sem_give(&radio_says);
}

void zfl_radio_open(void)
{
	uart_irq_callback_set(radio, radio_interrupt);
	uart_irq_rx_enable(radio);
}

uint32_t zfl_radio_read(uint8_t *octets, uint32_t len)
{
	return ring_buf_get(&radio_came, octets, len);
}

void zfl_radio_write(const uint8_t *octets, uint32_t len)
{
	for (uint32_t at = 0; at < len; at++) {
		uart_poll_out(radio, octets[at]);
	}
}

void zfl_radio_wait(int timeout_ms)
{
	k_sem_take(&radio_says, timeout_ms < 0 ? K_FOREVER : K_MSEC(timeout_ms));
}

#endif
