/* rte_fib6 and rte_lpm6: IPv6. */
#include <errno.h>

#include <rte_fib6.h>
#include <rte_lpm6.h>

#include "fib_dpdk.h"

typedef uint8_t address6[16];

static void *fib6_create(const char *name, uint32_t routes, uint32_t groups)
{
	struct rte_fib6_conf conf = {
		.type = RTE_FIB6_TRIE,
		.default_nh = 0,
		/* It makes room for inner nodes itself. */
		.max_routes = routes + 1024,
		/* 2-byte entries cannot number the groups of a full table. */
		.trie = { .nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = groups },
	};
	struct rte_fib6 *fib = rte_fib6_create(name, 0, &conf);
	if (fib == NULL)
		return NULL;
	if (rte_fib6_select_lookup(fib, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512) != 0) {
		fail("rte_fib6 has no AVX512 lookup on this processor");
		rte_fib6_free(fib);
		return NULL;
	}
	return fib;
}

static void fib6_destroy(void *fib)
{
	rte_fib6_free(fib);
}

static int fib6_add(void *fib, const void *at)
{
	const struct route6 *route = at;
	return rte_fib6_add(fib, route->address, route->length, route->hop);
}

static int fib6_remove(void *fib, const void *at)
{
	const struct route6 *route = at;
	return rte_fib6_delete(fib, route->address, route->length);
}

static void fib6_run(void *fib, const void *at, size_t n, unsigned batch)
{
	uint64_t results[BATCH_MAX];
	/* The interface wants them writable, and does not write. */
	address6 *addresses = (address6 *)(uintptr_t)at;
	for (size_t i = 0; i + batch <= n; i += batch) {
		rte_fib6_lookup_bulk(fib, addresses + i, results, batch);
		BARRIER(results);
	}
}

static void fib6_look(void *fib, const void *at, unsigned n, uint16_t *hops)
{
	uint64_t results[BATCH_MAX];
	rte_fib6_lookup_bulk(fib, (address6 *)(uintptr_t)at, results, n);
	for (unsigned i = 0; i < n; i++)
		hops[i] = results[i];
}

static void *lpm6_create(const char *name, uint32_t routes, uint32_t groups)
{
	struct rte_lpm6_config config = { .max_rules = routes + 1024, .number_tbl8s = groups };
	return rte_lpm6_create(name, 0, &config);
}

static void lpm6_destroy(void *lpm)
{
	rte_lpm6_free(lpm);
}

static int lpm6_add(void *lpm, const void *at)
{
	const struct route6 *route = at;
	return rte_lpm6_add(lpm, route->address, route->length, route->hop);
}

static int lpm6_remove(void *lpm, const void *at)
{
	const struct route6 *route = at;
	return rte_lpm6_delete(lpm, route->address, route->length);
}

static void lpm6_run(void *lpm, const void *at, size_t n, unsigned batch)
{
	int32_t results[BATCH_MAX];
	address6 *addresses = (address6 *)(uintptr_t)at;
	for (size_t i = 0; i + batch <= n; i += batch) {
		rte_lpm6_lookup_bulk_func(lpm, addresses + i, results, batch);
		BARRIER(results);
	}
}

static void lpm6_look(void *lpm, const void *at, unsigned n, uint16_t *hops)
{
	int32_t results[BATCH_MAX];
	rte_lpm6_lookup_bulk_func(lpm, (address6 *)(uintptr_t)at, results, n);
	for (unsigned i = 0; i < n; i++)
		hops[i] = results[i] < 0 ? 0 : results[i];
}

#define IPV6 .address_size = sizeof(address6), .route_size = sizeof(struct route6)

const struct kind kinds6[] = {
	{ .name = "fib6", IPV6, .create = fib6_create, .destroy = fib6_destroy, .add = fib6_add,
	  .remove = fib6_remove, .absent = ENOENT, .run = fib6_run, .look = fib6_look,
	  .groups = 1 << 18, .groups_max = 1 << 22 },
	{ .name = "lpm6", IPV6, .create = lpm6_create, .destroy = lpm6_destroy, .add = lpm6_add,
	  .remove = lpm6_remove, .absent = ENOENT, .run = lpm6_run, .look = lpm6_look,
	  .groups = 1 << 17, .groups_max = 1 << 21 },
};
const size_t kinds6_len = sizeof(kinds6) / sizeof(kinds6[0]);
