/* The DPDK peers of the suite "fib": what the protocol (fib_dpdk.c) and the tables share. */
#ifndef FIB_DPDK_H
#define FIB_DPDK_H

#include <stddef.h>
#include <stdint.h>

/* Files are arrays of these, in host byte order. An IPv6 address is 16 bytes in network order. */
struct route4 {
	uint32_t address;
	uint8_t length;
	uint8_t unused;
	uint16_t hop; /* 1 to 255; in a file of updates 0 withdraws the prefix */
};

struct route6 {
	uint8_t address[16];
	uint8_t length;
	uint8_t unused;
	uint16_t hop;
	uint32_t unused_too;
};

/* Room for the largest batch. */
enum { BATCH_MAX = 4096 };

/* Results are to be written, and the loop not to be taken apart. */
#define BARRIER(results) __asm__ volatile("" : : "r"(results) : "memory")

struct table;

/* One kind of table. Addresses, routes and results are of its own width. */
struct kind {
	const char *name;
	size_t address_size;
	size_t route_size;
	/* Makes an empty table with `groups` second-level groups; NULL if that cannot be. */
	void *(*create)(const char *name, uint32_t routes, uint32_t groups);
	void (*destroy)(void *handle);
	/* Adds or replaces a route; 0, or a negative errno. */
	int (*add)(void *handle, const void *route);
	/* Removes a route; 0, or a negative errno: -`absent` if there is none for the prefix. */
	int (*remove)(void *handle, const void *route);
	int absent;
	/* Looks all addresses up once, in batches, and drops the results. */
	void (*run)(void *handle, const void *addresses, size_t n, unsigned batch);
	/* Looks up one batch and gives the hops, 0 for a miss. */
	void (*look)(void *handle, const void *addresses, unsigned n, uint16_t *hops);
	/* The groups to begin with, and the most to try: a table too small for its routes is made
	 * anew with twice as many. */
	uint32_t groups, groups_max;
};

extern const struct kind kinds4[], kinds6[];
extern const size_t kinds4_len, kinds6_len;

/* Ends a command: the next line of the answer is "error TEXT". Returns -1. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
